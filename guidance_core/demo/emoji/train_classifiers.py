"""How the noisy classifiers are trained: on the latents that the denoiser learns from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ... import TrainStep, train_classifier
from .classes import ATTRIBUTES, LABELS
from .latents import Bank

SETTINGS: dict[str, Any] = {
    "batch": 48,
    "learning_rate": 2e-3,
    "log_snr_range": (-6.0, 5.0),
    "entropy_penalty": 0.0,
    "label_smoothing": 0.02,
    "latent_space": "emoji",
    "checkpoint_every": 100,
}
STEPS = {"classifier": 6000, "attributes": 1000}


def train(part: str, bank: Bank, work: Path) -> Iterator[TrainStep]:
    """The training of "classifier" (one class a picture) or "attributes" (any number), resumed from `work`."""
    checkpoint = work / f"{part}-training.safetensors"
    settings = SETTINGS | {"steps": STEPS[part], "checkpoint": checkpoint}
    if part == "attributes":
        return train_classifier(bank.x0, bank.attributes, ATTRIBUTES, head="multi", **settings)
    return train_classifier(bank.x0, bank.labels, LABELS, **settings)
