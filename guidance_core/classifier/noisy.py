"""NoisyClassifier: a noise-aware classifier p(y | x_t) with its labels, and its safetensors file."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..errors import GuidanceError
from ..files import read_tensors, write_tensors
from ..paths import VE, Path
from ..tensors import per_sample
from .network import LatentEncoder

FORMAT = "guidance-kit.noisy-classifier"
VERSION = 1
ARCHITECTURES: dict[str, type[nn.Module]] = {"latent_encoder": LatentEncoder}
HEADS = ("single", "multi", "regression")
"""What logits mean: softmax over labels that exclude each other, a sigmoid for each label, or scores as they are."""


@dataclass(frozen=True, eq=False)
class NoisyClassifier:
    """A network p(y | x_t, log-SNR) and what is needed to use it safely.

    network: (x [B, C, ...] of unit variance, log_snr [B]) -> logits [B, K]. labels: K names. latent_space: the name of
    the latents it was trained on ("" when unknown). log_snr_range: the noise levels it was trained on; beyond them it
    is asked at the nearest end. parameters: the keyword arguments that rebuild the network; a network of another
    architecture works without them, but cannot be saved. info: free text for the file. head: what the logits mean, one
    of HEADS.
    """

    network: nn.Module
    labels: Sequence[str]
    latent_space: str = ""
    log_snr_range: tuple[float, float] = (-10.0, 10.0)
    architecture: str = "latent_encoder"
    parameters: dict = field(default_factory=dict)
    info: dict[str, str] = field(default_factory=dict)
    head: str = "single"

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise GuidanceError(f"There is no classifier head '{self.head}'; choose one of {', '.join(HEADS)}.")

    @property
    def channels(self) -> int | None:
        """Latent channels it expects; None when that was not said."""
        return self.parameters.get("channels")

    def __call__(self, x: Tensor, sigma: Tensor | float, path: Path = VE) -> Tensor:
        """Logits [B, K] of x [B, C, ...] at noise level sigma ([B] or one number) on a path."""
        if self.channels not in (None, x.shape[1]):
            raise GuidanceError(
                f"this classifier was trained on {self.channels}-channel latents and got {x.shape[1]} channels: "
                f"use a classifier made for this model's latents{_space(self.latent_space)}."
            )
        sigma = per_sample(sigma, x)
        log_snr = path.log_snr(sigma).clamp(*self.log_snr_range)
        return self.network(path.unit(x, sigma), log_snr)

    def save(self, file: str | os.PathLike) -> None:
        """Write a safetensors file, whole or not at all. A network that no file can rebuild is a GuidanceError."""
        if not isinstance(self.network, ARCHITECTURES.get(self.architecture, ())):
            raise GuidanceError(
                f"A {type(self.network).__name__} cannot be saved as '{self.architecture}': files hold networks of the "
                f"architectures {', '.join(ARCHITECTURES)}."
            )
        metadata = {
            "format": FORMAT,
            "version": str(VERSION),
            "architecture": self.architecture,
            "parameters": json.dumps(self.parameters),
            "labels": json.dumps(list(self.labels)),
            "latent_space": self.latent_space,
            "log_snr_range": json.dumps(list(self.log_snr_range)),
            "info": json.dumps(self.info),
            "head": self.head,
        }
        write_tensors(file, self.network.state_dict(), metadata)

    @classmethod
    def load(cls, file: str | os.PathLike) -> "NoisyClassifier":
        """Read a classifier; executes nothing from the file. Raises GuidanceError with what is wrong with it."""
        metadata, tensors = read_tensors(file, "noisy classifier", FORMAT)
        name = os.path.basename(file)
        if metadata.get("version") != str(VERSION):
            raise GuidanceError(
                f"'{name}' has format version {metadata.get('version')}, this Guidance Kit reads version {VERSION}: "
                f"update it."
            )
        architecture = metadata.get("architecture")
        if architecture not in ARCHITECTURES:
            raise GuidanceError(f"'{name}' has the unknown architecture '{architecture}': update Guidance Kit.")
        try:
            parameters = json.loads(metadata["parameters"])
            labels = [str(label) for label in json.loads(metadata["labels"])]
            low, high = (float(value) for value in json.loads(metadata["log_snr_range"]))
            info = dict(json.loads(metadata.get("info", "{}")))
            with torch.inference_mode(False):
                network = ARCHITECTURES[architecture](**parameters)
                network.load_state_dict(tensors)
            if len(labels) != parameters["classes"] or not low < high:
                raise ValueError(f"{len(labels)} labels for {parameters['classes']} classes, log-SNR {low} to {high}")
        except (LookupError, ArithmeticError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise GuidanceError(
                f"'{name}' is damaged: its weights and its description do not agree ({error})."
            ) from error
        network.eval().requires_grad_(False)
        space = metadata.get("latent_space", "")
        head = metadata.get("head", "single")
        return cls(network, labels, space, (low, high), architecture, parameters, info, head)


def _space(latent_space: str) -> str:
    return f" (this one: {latent_space})" if latent_space else ""
