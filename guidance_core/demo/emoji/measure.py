"""The measures of samples: the judge's accuracy, Frechet distance in its features, nearness to training pictures."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...frozen import frozen
from ..judge import frechet_distance
from . import Emoji
from .augment import vary
from .data import HALF_A, HALF_B, HELD_OUT, Pictures

COPY_SHARE = 0.9


def drawn(pictures: Pictures, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(images [N, 3, 64, 64] in [0, 1], labels [N]) drawn by their weights and varied, as the model learned them."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.multinomial(pictures.weights, count, replacement=True, generator=generator)
    labels = pictures.labels[chosen]
    parts = zip(pictures.images[chosen].split(200), labels.split(200), strict=True)
    return torch.cat([vary(images.float() / 255, y, generator) for images, y in parts]), labels


@torch.no_grad()
def in_parts(network: Callable[[Tensor], Tensor], images: Tensor, size: int = 200) -> Tensor:
    return torch.cat([network(part) for part in images.split(size)])


@frozen(eq=False)
class Measure:
    """What samples are held against: real pictures that the judge never learned from.

    real: their features [N, 64]. real_colour: how far apart red, green and blue lie in them on average.
    """

    demo: Emoji
    real: Tensor
    real_colour: float

    @classmethod
    def of(cls, demo: Emoji, pictures: Pictures, count: int = 2000) -> "Measure":
        images, _ = drawn(pictures.of(HALF_A, HELD_OUT), count, seed=10)
        return cls(demo, in_parts(demo.judge.features, images), chroma(images))

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """The share of images [N, 3, 64, 64] that the judge puts in the class that was asked for."""
        return float((in_parts(self.demo.judge, images).argmax(1) == labels).float().mean())

    def frechet(self, images: Tensor) -> float:
        """Frechet distance of images to the real pictures; it falls with their number, so compare equal numbers."""
        return frechet_distance(in_parts(self.demo.judge.features, images), self.real)

    def colour(self, images: Tensor) -> float:
        """How colourful images are: 1 is as real pictures, more is burnt."""
        return chroma(images) / self.real_colour


def chroma(images: Tensor) -> float:
    """The mean distance of the largest from the least of red, green and blue, over images [N, 3, H, W]."""
    return float((images.amax(1) - images.amin(1)).mean())


@torch.no_grad()
def nearest(x0: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean square distance of each x0 [N, 4, 16, 16] to the nearest of a bank [M, 4, 16, 16], and which it is."""
    found = torch.cdist(x0.flatten(1), bank.flatten(1)).min(1)
    return found.values / x0[0].numel() ** 0.5, found.indices


@frozen
class Copies:
    """How near samples come to training pictures. The threshold: nearer than that lie 90 % of true copies.

    A true copy is a training picture varied anew, as a model that knew nothing else would draw it. samples and
    held_out: the share of samples, and of held-out pictures (what chance alone gives), that lie as near.
    """

    threshold: float
    samples: float
    held_out: float


def copies(demo: Emoji, pictures: Pictures, bank: Tensor, x0: Tensor, count: int = 500) -> Copies:
    """Count near-copies among samples x0, holding them against a bank of varied training pictures."""
    known, _ = drawn(pictures.of(HALF_A, HALF_B), count, seed=11)
    unknown, _ = drawn(pictures.of(HELD_OUT), count, seed=12)
    threshold = float(nearest(in_parts(demo.encode, known), bank)[0].quantile(COPY_SHARE))
    near = [float((nearest(x, bank)[0] < threshold).float().mean()) for x in (x0, in_parts(demo.encode, unknown))]
    return Copies(threshold, *near)
