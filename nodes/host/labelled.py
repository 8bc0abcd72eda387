"""Labelled latents: what a noisy classifier learns from, as it travels between nodes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...guidance_core.errors import GuidanceError


@dataclass(frozen=True, eq=False)
class LabelledLatents:
    """Latents [N, C, ...] as a VAE gives them, their label names, and their targets (see Source.labels) of a head."""

    latents: Tensor
    labels: tuple[str, ...]
    targets: Tensor
    head: str = "single"

    def counts(self) -> str:
        """How many there are of each label, in words."""
        if self.head == "regression":
            return f"{len(self.latents)} with scores {', '.join(self.labels)}"
        each = self.targets.bincount(minlength=len(self.labels)) if self.head == "single" else self.targets.sum(0)
        return ", ".join(f"{int(count)} {label}" for label, count in zip(self.labels, each, strict=True))


def of_one_label(latents: Tensor, label: str) -> LabelledLatents:
    """Latents that all have one label."""
    return LabelledLatents(latents, (label,), torch.zeros(len(latents), dtype=torch.long))


def joined(first: LabelledLatents | None, second: LabelledLatents) -> LabelledLatents:
    """Both, labels of the same name being one. Raises GuidanceError for other sizes or another kind of labels."""
    if first is None:
        return second
    if first.head != second.head or (first.head != "single" and first.labels != second.labels):
        raise GuidanceError(
            f"these labels do not go together: {first.head} labels {', '.join(first.labels)} and {second.head} labels "
            f"{', '.join(second.labels)}. Train on them separately."
        )
    if first.latents.shape[1:] != second.latents.shape[1:]:
        sizes = " and ".join("x".join(map(str, part.latents.shape[1:])) for part in (first, second))
        raise GuidanceError(f"all latents must have one size, got {sizes}: encode the pictures at the same size.")
    latents = torch.cat([first.latents, second.latents.to(first.latents)])
    if first.head != "single":
        return LabelledLatents(latents, first.labels, torch.cat([first.targets, second.targets]), first.head)
    labels = tuple(dict.fromkeys((*first.labels, *second.labels)))
    renamed = torch.tensor([labels.index(label) for label in second.labels])[second.targets]
    return LabelledLatents(latents, labels, torch.cat([first.targets, renamed]))
