"""NoisyClassifier: a noise-aware classifier p(y | x_t) with its labels, and its safetensors file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor, nn

from ..errors import GuidanceError
from ..files import Header, read_header, read_tensors, write_tensors
from ..paths import VE, NoisePath
from ..tensors import per_sample
from .adm import AdmEncoder
from .card import FORMAT, Card, Record, from_metadata, to_metadata
from .heads import Head, as_head
from .latent_encoder import LatentEncoder
from .temperature import temperature_at

ARCHITECTURES: dict[str, type[nn.Module]] = {"latent_encoder": LatentEncoder, "adm_encoder": AdmEncoder}
KIND = "noisy classifier"
MAX_WEIGHTS = 10**9
DTYPES = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, eq=False)
class NoisyClassifier:
    """A network p(y | x_t, log-SNR) and what is needed to use it safely.

    network: (x [B, C, ...] of unit variance, log_snr [B]) -> logits [B, K]. labels: K names. latent_space: the name of
    the latents it was trained on ("" when unknown). log_snr_range: the noise levels it was trained on; beyond them it
    is asked at the nearest end. parameters: the keyword arguments that rebuild the network; a network of another
    architecture works without them, but cannot be saved. info: free text for the file. head: what the logits mean, a
    Head or its name. record: how it was made and measured; its temperatures divide the logits.
    """

    network: nn.Module
    labels: Sequence[str]
    latent_space: str = ""
    log_snr_range: tuple[float, float] = (-10.0, 10.0)
    architecture: str = "latent_encoder"
    parameters: dict = field(default_factory=dict)
    info: dict[str, str] = field(default_factory=dict)
    head: str | Head = "single"
    record: Record = field(default_factory=Record)

    def __post_init__(self) -> None:
        object.__setattr__(self, "head", as_head(self.head))

    @property
    def channels(self) -> int | None:
        """Latent channels it expects; None when that was not said."""
        return self.parameters.get("channels")

    @property
    def card(self) -> Card:
        """Everything its file says about it."""
        return Card(**{f.name: getattr(self, f.name) for f in fields(Card)})

    def recording(self, **changes) -> "NoisyClassifier":
        """The same classifier with these fields of its record changed."""
        return replace(self, record=replace(self.record, **changes))

    def __call__(self, x: Tensor, sigma: Tensor | float, path: NoisePath = VE) -> Tensor:
        """Logits [B, K] of x [B, C, ...] at noise level sigma ([B] or one number) on a path."""
        if self.channels not in (None, x.shape[1]):
            raise GuidanceError(
                f"this classifier was trained on {self.channels}-channel latents and got {x.shape[1]} channels: "
                f"use a classifier made for this model's latents{_space(self.latent_space)}."
            )
        sigma = per_sample(sigma, x)
        log_snr = path.log_snr(sigma).clamp(*self.log_snr_range)
        logits = self.network(path.unit(x, sigma), log_snr)
        if self.record.temperatures:
            logits = logits / temperature_at(log_snr, self.record.temperatures).to(logits)[:, None]
        return logits

    def save(self, file: str | os.PathLike) -> None:
        """Write a safetensors file, whole or not at all.

        Raises GuidanceError for a network that no file can rebuild, and for what `load` would refuse.
        """
        if not isinstance(self.network, ARCHITECTURES.get(self.architecture, ())):
            raise GuidanceError(
                f"A {type(self.network).__name__} cannot be saved as '{self.architecture}': files hold networks of the "
                f"architectures {', '.join(ARCHITECTURES)}."
            )
        metadata = to_metadata(self.card)
        from_metadata(metadata, os.path.basename(file))
        write_tensors(file, self.network.state_dict(), metadata)

    @classmethod
    def load(cls, file: str | os.PathLike) -> "NoisyClassifier":
        """Read a classifier; executes nothing from the file. Raises GuidanceError with what is wrong with it."""
        header = read_header(file, KIND, FORMAT)
        name = os.path.basename(file)
        card = from_metadata(header.metadata, name)
        with torch.inference_mode(False):
            network = _outline(card, header, name)
            # copies, since the file may be written anew while it is mapped into memory
            weights = {key: w.to(torch.float32, copy=True) for key, w in read_tensors(file, KIND, FORMAT)[1].items()}
            check_finite(weights, name)
            network.load_state_dict(weights, assign=True)
        network.eval().requires_grad_(False)
        return cls(network, **{f.name: getattr(card, f.name) for f in fields(Card)})


def check_finite(weights: dict[str, Tensor], name: str) -> None:
    """Raise GuidanceError unless the weights in the file `name` are finite numbers."""
    for key, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            raise GuidanceError(f"'{name}' is damaged: its weights '{key[:80]}' are not all finite numbers.")


def read_card(file: str | os.PathLike) -> Card:
    """The card of a classifier's file, without building its network. Raises GuidanceError with what is wrong."""
    return from_metadata(read_header(file, KIND, FORMAT).metadata, os.path.basename(file))


def _outline(card: Card, header: Header, name: str) -> nn.Module:
    """The network of a card without memory for its weights, once those in the file are known to fit it."""
    if card.architecture not in ARCHITECTURES:
        raise GuidanceError(f"'{name}' has the unknown architecture '{card.architecture}': update Guidance Kit.")
    try:
        with torch.device("meta"):
            network = ARCHITECTURES[card.architecture](**card.parameters)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise GuidanceError(f"'{name}' is damaged: its parameters build no network ({str(error)[:200]}).") from error
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    shapes = {key: shape for key, (_, shape) in header.tensors.items()}
    for key in expected.keys() | shapes.keys():
        if expected.get(key) != shapes.get(key):
            raise GuidanceError(
                f"'{name}' is damaged: its weights and its description do not agree ('{key[:80]}' is "
                f"{_shape(shapes.get(key))}, described as {_shape(expected.get(key))})."
            )
    for key, (dtype, _) in header.tensors.items():
        if dtype not in DTYPES:
            raise GuidanceError(f"'{name}' is damaged: its weights '{key}' are {dtype[:20]}, not real numbers.")
    count = sum(parameter.numel() for parameter in network.parameters())
    if count > MAX_WEIGHTS:
        raise GuidanceError(f"'{name}' holds {count} weights; classifiers of up to {MAX_WEIGHTS} are loaded.")
    return network


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))


def _space(latent_space: str) -> str:
    return f" (this one: {latent_space})" if latent_space else ""
