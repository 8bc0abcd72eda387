"""Two classifiers of clean pictures that share nothing: a guide that steers, and a judge that only measures.

They differ in architecture and seed, and each learns from another half of the emoji.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .classes import LABELS

FEATURES = 64


class Judge(nn.Module):
    """Plain convolutions at full size: images [B, 3, 64, 64] in [0, 1] -> logits [B, 11]."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 80, 112)):
        super().__init__()
        layers: list[nn.Module] = []
        for before, out in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, out, 3, padding=1), nn.GroupNorm(8, out), nn.SiLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.narrow = nn.Linear(4 * widths[-1], FEATURES)
        self.head = nn.Linear(FEATURES, len(LABELS))

    def features(self, images: Tensor) -> Tensor:
        """What the judge sees in images, [B, 64]: Frechet distances are taken here."""
        return self.narrow(self.body(2 * images - 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.silu(self.features(images)))


class Residual(nn.Module):
    """Two convolutions beside a skip, then half the height and width."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.norm = nn.GroupNorm(4, channels)
        self.first, self.second = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(F.gelu(self.first(F.gelu(self.norm(x)))))
        return F.avg_pool2d(self.skip(x) + h, 2)


class Guide(nn.Module):
    """Residual blocks at half size, smooth everywhere: images [B, 3, 64, 64] in [0, 1] -> logits [B, 11]."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 72)):
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        pairs = zip((widths[0], *widths), widths, strict=False)
        self.body = nn.Sequential(*(Residual(before, out) for before, out in pairs))
        self.head = nn.Linear(widths[-1], len(LABELS))

    def forward(self, images: Tensor) -> Tensor:
        h = self.body(self.stem(F.avg_pool2d(2 * images - 1, 2)))
        return self.head(F.gelu(h).mean((2, 3)))


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images [N, 3, 64, 64] that a network puts in their class, labels [N]."""
    right = [network(x).argmax(1) == y for x, y in zip(images.split(200), labels.split(200), strict=True)]
    return float(torch.cat(right).float().mean())
