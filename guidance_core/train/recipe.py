"""What is fixed from the beginning of a training run: settings, data, and the card of the classifier to be."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import torch

from ..classifier.card import Card, Record
from ..classifier.heads import Head, as_head
from ..classifier.latent_encoder import SIZES
from ..classifier.metadata import check_card
from ..classifier.noisy import NoisyClassifier
from ..data.augment import Augment, augmentation
from ..data.sources import Source
from ..data.streaming import Stream
from ..distributed import this_process
from ..errors import GuidanceError
from ..frozen import frozen
from .data import NoisyData, Subset, Targets, training_and_held_out
from .optimization import learning
from .settings import TrainSettings
from .state import TrainState
from .streamed import Streamed, streamed
from .validation import Validator


@frozen(eq=False)
class Recipe:
    """What a run is made of. card: of the classifier to be, before training. augmented: `augment` in words."""

    settings: TrainSettings
    head: Head
    source: Source | Stream
    data: NoisyData
    training: Subset | Streamed
    held_out: Subset
    augment: Augment | None
    augmented: str
    card: Card

    @property
    def classes(self) -> int:
        return len(self.card.labels)

    @cached_property
    def fingerprint(self) -> str:
        """Of the data."""
        return self.source.fingerprint()

    @cached_property
    def precision(self) -> AbstractContextManager:
        """Around every call of a network."""
        dtype = self.settings.dtype_on(self.data.device)
        return nullcontext() if dtype == torch.float32 else torch.autocast(self.data.device.type, dtype)

    @cached_property
    def validator(self) -> Validator:
        return Validator(self.data, self.head, self.held_out, int(self.settings.batch), int(self.settings.seed))

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must have in common with the run that goes on from it."""
        identity = _in_words(self.settings, self.augmented) | {
            "label_names": self.card.labels,
            "latent_space": self.card.latent_space,
            "log_snr_range": self.card.log_snr_range,
            "network": self.card.parameters,
            "device": self.data.device.type,
            "precision": str(self.settings.dtype_on(self.data.device)).removeprefix("torch."),
            "data": self.fingerprint,
        }
        del identity["checkpoint_every"], identity["accumulate"]  # which change no result but for rounding
        return identity

    def best(self, state: TrainState) -> NoisyClassifier:
        """The best classifier of a run so far."""
        with learning():
            network = state.best_network()
        figures = {f"validation_{name}": value for name, value in state.best.items()}
        training = self.card.record.training | {"trained_steps": state.step} | figures
        return NoisyClassifier(network, self.card.recording(training=training, data_hash=self.fingerprint))


def make_recipe(
    settings: TrainSettings,
    source: Source | Stream,
    names: list[str],
    log_snr_range: tuple[float, float],
    augment: Augment | str | Sequence[str] | None,
    latent_space: str,
    device: torch.device | str | None,
) -> Recipe:
    """Raises GuidanceError for what cannot train."""
    low, high = map(float, log_snr_range)
    if not low < high:
        raise GuidanceError(f"log_snr_range must rise, got {low} to {high}.")
    augment, augmented = _augmentation(augment)
    head, process = as_head(settings.head), replace(this_process(), pieces=int(settings.accumulate))
    if settings.batch < process.world_size:
        raise GuidanceError(f"{process.world_size} processes cannot share a batch of {settings.batch}: enlarge it.")
    training: Subset | Streamed
    y: Targets
    if isinstance(source, Stream):
        training, held_out, y = streamed(source, settings)
        info = y.info
    else:
        training, held_out = training_and_held_out(source, names, head, settings)
        y, info = head.prepare(source.labels, training.indices)
    device = torch.device(device) if device is not None else source.load(torch.tensor([0])).device
    settings.dtype_on(device)
    card = Card(
        names,
        latent_space,
        (low, high),
        architecture="latent_encoder",
        parameters={"channels": source.shape[0], "classes": len(names), **SIZES[settings.size]},
        info=info,
        head=head,
        record=Record(training=_in_words(settings, augmented) | {"examples": len(training)}),
    )
    check_card(card, "The classifier to train")  # refused now, not when it is saved
    data = NoisyData(source, y, (low, high), device, process)
    return Recipe(settings, head, source, data, training, held_out, augment, augmented, card)


def _in_words(settings: TrainSettings, augmented: str) -> dict[str, Any]:
    """The settings as files have them: a seed may be larger than numbers there can be."""
    return asdict(settings) | {"seed": str(int(settings.seed)), "augment": augmented}


def _augmentation(augment: Augment | str | Sequence[str] | None) -> tuple[Augment | None, str]:
    """The variation and its description."""
    if callable(augment):
        return augment, "a function"
    names = augment.split(",") if isinstance(augment, str) else augment or ()
    names = [name.strip() for name in names if name.strip()]
    return augmentation(names), ", ".join(names)
