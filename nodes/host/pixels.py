"""Pictures as networks take them: resized and normalised, with a gradient all along."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Prepared(nn.Module):
    """Pictures about [0, 1], resized whole to what a network takes, and normalised."""

    def __init__(self, size: tuple[int, int], mean: list[float], std: list[float]):
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        pictures = F.interpolate(pictures, self.size, mode="bilinear", antialias=True, align_corners=False)
        return (pictures - self.mean.to(pictures)) / self.std.to(pictures)
