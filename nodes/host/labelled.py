"""Labelled latents: what a noisy classifier learns from, as it travels between nodes."""

import torch
from torch import Tensor

from ...guidance_core.classifier.heads import Head, as_head
from ...guidance_core.classifier.names import as_labels
from ...guidance_core.errors import GuidanceError
from ...guidance_core.frozen import frozen


@frozen(eq=False)
class LabelledLatents:
    """Latents [N, C, ...] as a VAE gives them, their label names, and their targets (see Source.labels) of a head.

    zoom: pixels of a picture by latents, where they are known.
    """

    latents: Tensor
    labels: tuple[str, ...]
    targets: Tensor
    head: Head = as_head("single")
    zoom: int | None = None

    def counts(self) -> str:
        """How many there are of each label, in words."""
        each = self.head.occurrences(self.targets, len(self.labels))
        if each is None:
            return f"{len(self.latents)} with {self.head.title} {', '.join(self.labels)}"
        return ", ".join(f"{int(count)} {label}" for label, count in zip(self.labels, each, strict=True))


def of_one_label(latents: Tensor, label: str) -> LabelledLatents:
    """Latents that all have one label."""
    return LabelledLatents(latents, tuple(as_labels([label])), torch.zeros(len(latents), dtype=torch.long))


def joined(first: LabelledLatents | None, second: LabelledLatents) -> LabelledLatents:
    """Both, labels of the same name being one. Raises GuidanceError for other sizes or another kind of labels."""
    if first is None:
        return second
    form = first.head.label_format
    if not first.head.takes(second.head) or (not form.additive and first.labels != second.labels):
        raise GuidanceError(
            f"these labels do not go together: {first.head} labels {', '.join(first.labels)} and {second.head} labels "
            f"{', '.join(second.labels)}. Train on them separately."
        )
    if first.latents.shape[1:] != second.latents.shape[1:]:
        sides = [part.latents.shape[2:] for part in (first, second)]
        zoom = first.zoom or second.zoom if sides[0] != sides[1] else None  # else they differ in their channels
        sizes = " and ".join(_size(part, zoom) for part in (first, second))
        raise GuidanceError(f"all latents must have one size, got {sizes}: encode the pictures at the same size.")
    latents = torch.cat([first.latents, second.latents.to(first.latents)])
    labels = tuple(dict.fromkeys((*first.labels, *second.labels)))
    renamed = form.renamed(second.targets, [labels.index(label) for label in second.labels], len(labels))
    return LabelledLatents(latents, labels, torch.cat([first.targets, renamed]), first.head, first.zoom or second.zoom)


def _size(examples: LabelledLatents, zoom: int | None) -> str:
    """The size of latents, in pixels of their pictures where that can be told."""
    *rest, height, width = examples.latents.shape[1:]
    if zoom is None or len(rest) != 1:
        return "x".join(map(str, (*rest, height, width))) + " latents"
    return f"{width * zoom} x {height * zoom} pixels"
