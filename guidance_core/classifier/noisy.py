"""NoisyClassifier: a noise-aware classifier p(y | x_t), which is a network and a card, and its safetensors file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import GuidanceError
from ..files import read_header, read_tensors, write_tensors
from ..paths import VE, NoisePath
from ..tensors import per_sample
from .card import Card, Record
from .heads import Head
from .metadata import FORMAT, check_card, from_metadata, to_metadata
from .names import some_of
from .network import ARCHITECTURES, check_finite, outline
from .temperature import temperature_at

KIND = "noisy classifier"


@dataclass(frozen=True, eq=False, init=False, repr=False)
class NoisyClassifier:
    """A network p(y | x_t, log-SNR) and a card that says what is needed to use it safely.

    network: (x [B, C, ...] of unit variance, log_snr [B]) -> logits [B, K]; one of an architecture that no card can
    describe works, but cannot be saved. The temperatures of the card's record divide the logits,
    and its prior is added to them.
    """

    network: nn.Module
    card: Card

    def __init__(self, network: nn.Module, card: Card | Sequence[str], *more: Any, **fields: Any) -> None:
        """card: a Card, or what one is made of, labels first. fields: of the card, by name, instead of its own."""
        card = card if isinstance(card, Card) else Card(card, *more)
        object.__setattr__(self, "network", network)
        object.__setattr__(self, "card", replace(card, **fields) if fields else card)

    def __repr__(self) -> str:
        card = self.card
        weights = sum(parameter.numel() for parameter in self.network.parameters())
        low, high = card.log_snr_range
        return (
            f"NoisyClassifier({card.head.titled(len(card.labels))}: {some_of(card.labels)}; {card.architecture}, "
            f"{weights:,} weights; latents {card.latent_space!r}, log-SNR {low:g} to {high:g})"
        )

    @property
    def labels(self) -> Sequence[str]:
        """The names of the K classes, or scores."""
        return self.card.labels

    @property
    def latent_space(self) -> str:
        """The name of the latents it was trained on; "" when unknown."""
        return self.card.latent_space

    @property
    def log_snr_range(self) -> tuple[float, float]:
        """The noise levels it was trained on; beyond them it is asked at the nearest end."""
        return self.card.log_snr_range

    @property
    def architecture(self) -> str:
        """The name of its network's class."""
        return self.card.architecture

    @property
    def parameters(self) -> dict[str, Any]:
        """The keyword arguments that rebuild the network."""
        return self.card.parameters

    @property
    def info(self) -> dict[str, str]:
        """Free text, and what its head keeps."""
        return self.card.info

    @property
    def head(self) -> Head:
        """What its logits mean."""
        return self.card.head

    @property
    def record(self) -> Record:
        """How it was made and measured."""
        return self.card.record

    @property
    def channels(self) -> int | None:
        """Latent channels it expects; None when that was not said."""
        return self.card.channels

    def recording(self, **changes: Any) -> "NoisyClassifier":
        """The same classifier with these fields of its record changed."""
        return NoisyClassifier(self.network, self.card.recording(**changes))

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
        if prior := self.record.prior:  # of a classifier of balanced classes: Bayes' rule under another prior
            logits = logits + torch.tensor(prior, dtype=torch.float64).mul(len(prior)).log().to(logits)
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
        check_card(self.card, os.path.basename(file))
        write_tensors(file, self.network.state_dict(), to_metadata(self.card))

    @classmethod
    def load(cls, file: str | os.PathLike) -> "NoisyClassifier":
        """Read a classifier; executes nothing from the file. Raises GuidanceError with what is wrong with it."""
        header = read_header(file, KIND, FORMAT)
        name = os.path.basename(file)
        card = from_metadata(header.metadata, name)
        with torch.inference_mode(False):
            network = outline(card, header, name)
            # copies, since the file may be written anew while it is mapped into memory
            weights = {key: w.to(torch.float32, copy=True) for key, w in read_tensors(file, KIND, FORMAT)[1].items()}
            check_finite(weights, name)
            network.load_state_dict(weights, assign=True)
        network.eval().requires_grad_(False)
        return cls(network, card)


def read_card(file: str | os.PathLike) -> Card:
    """The card of a classifier's file, without building its network. Raises GuidanceError with what is wrong."""
    return from_metadata(read_header(file, KIND, FORMAT).metadata, os.path.basename(file))


def read_fitting_card(file: str | os.PathLike) -> Card:
    """As `read_card`, but raises what `load` does, without reading a weight: a file may describe another network."""
    header, name = read_header(file, KIND, FORMAT), os.path.basename(file)
    card = from_metadata(header.metadata, name)
    outline(card, header, name)
    return card


def _space(latent_space: str) -> str:
    return f" (this one: {latent_space})" if latent_space else ""
