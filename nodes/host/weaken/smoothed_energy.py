"""Smoothed energy: what the places of a picture look for in each other is blurred."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ....guidance_core.errors import GuidanceError
from ....guidance_core.frozen import frozen
from ....guidance_core.params import number
from ..architectures import Attention
from .base import BlockWeakening

INFINITE = 9999.0


@frozen
class SmoothedEnergy(BlockWeakening):
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

    def applied(self, options, kind, blocks):
        for block in blocks:
            options = kind.attended(options, block, self._smoothed)
        return options

    def _smoothed(self, attention: Attention) -> Tensor:
        q, image = attention.q.clone(), attention.q[..., attention.image, :]
        infinite = self.blur == INFINITE
        q[..., attention.image, :] = (
            image.mean(-2, keepdim=True) if infinite else blurred(image, self.blur, attention.grid)
        )
        return attention.of(q)


def blurred(q: Tensor, deviation: float, grid: tuple[int, int]) -> Tensor:
    """Queries [..., frames * rows * columns, d] under a Gaussian blur of each frame, mirrored at the edges.

    The kernel ends where the authors end it: after three deviations, or half of the picture. Raises GuidanceError for
    tokens that are no whole frames.
    """
    rows, columns = grid
    if q.shape[-2] % (rows * columns):
        raise GuidanceError(
            f"blur: a block of this model has {q.shape[-2]} tokens of the picture, which are no whole frames of "
            f"{rows} x {columns}; set blur to {INFINITE:g}."
        )
    image = q.reshape(-1, rows, columns, q.shape[-1]).movedim(-1, 1)  # [M, d, rows, columns]
    for axis in (-1, -2):
        reach = min(math.ceil(6 * deviation) // 2, image.shape[axis] // 2)
        at = torch.arange(-reach, reach + 1, device=q.device, dtype=torch.float32)
        weights = torch.exp(-0.5 * (at / deviation) ** 2)
        kernel = (weights / weights.sum()).to(q.dtype)
        kernel = kernel.reshape((1, 1, 1, -1) if axis == -1 else (1, 1, -1, 1))
        padding = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
        padded = F.pad(image, padding, mode="reflect") if reach else image
        image = F.conv2d(padded, kernel.expand(image.shape[1], 1, -1, -1), groups=image.shape[1])
    return image.movedim(1, -1).reshape(q.shape)
