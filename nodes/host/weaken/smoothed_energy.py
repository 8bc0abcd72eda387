"""Smoothed energy: what the places of a picture look for in each other is blurred."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ....guidance_core.errors import GuidanceError
from ....guidance_core.params import number
from ..architectures import Attention
from .base import Weakening

INFINITE = 9999.0


@dataclass(frozen=True)
class SmoothedEnergy(Weakening):
    name = "smoothed_energy"
    title = "Smoothed energy (SEG)"
    doc = "Blurs what the places of the picture look for in each other: a gentler lead than perturbed attention."
    source = "SEG, Hong 2024, arXiv:2408.00760"
    rank = 1
    blur: float = number(
        INFINITE,
        0.1,
        INFINITE,
        0.1,
        f"Standard deviation of the blur in places of the block; {INFINITE:g} is infinite: all look for the same.",
    )

    def knows(self, kind):
        return kind.places

    def applied(self, options, kind, blocks):
        if self.blur < INFINITE and not kind.grid:
            raise GuidanceError(
                f"a blur of {self.blur:g} needs the rows and columns of the picture inside of a block, which are not "
                f"known of {kind.title} models: set blur to {INFINITE:g}."
            )
        for block in blocks:
            options = kind.attended(options, block, self._smoothed)
        return options

    def _smoothed(self, attention: Attention) -> Tensor:
        q = attention.q.clone()
        of_image = q[..., attention.image, :]
        q[..., attention.image, :] = (
            of_image.mean(-2, keepdim=True) if self.blur == INFINITE else blurred(of_image, self.blur, attention.grid)
        )
        return attention.of(q)


def blurred(q: Tensor, deviation: float, grid: tuple[int, int]) -> Tensor:
    """Queries [..., rows * columns, d] under a Gaussian blur over rows and columns, mirrored at the edges."""
    rows, columns = grid
    image = q.reshape(-1, rows, columns, q.shape[-1]).movedim(-1, 1)  # [M, d, rows, columns]
    for axis in (-1, -2):
        reach = min(math.ceil(3 * deviation), image.shape[axis] - 1)
        at = torch.arange(-reach, reach + 1, device=q.device, dtype=torch.float32)
        weights = torch.exp(-0.5 * (at / deviation) ** 2)
        kernel = (weights / weights.sum()).to(q.dtype)
        kernel = kernel.reshape((1, 1, 1, -1) if axis == -1 else (1, 1, -1, 1))
        padding = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
        padded = F.pad(image, padding, mode="reflect") if reach else image
        image = F.conv2d(padded, kernel.expand(image.shape[1], 1, -1, -1), groups=image.shape[1])
    return image.movedim(1, -1).reshape(q.shape)
