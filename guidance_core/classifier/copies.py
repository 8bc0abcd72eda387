"""Copies of what a clean classifier is shown, over which its probabilities are averaged: one kind a class.

At a single point the gradient of a network that never saw noise is adversarial; its mean over varied copies is less so.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import GuidanceError
from ..frozen import frozen
from ..tensors import expand, seeded_noise


@frozen
class Copies(ABC):
    """count copies: 1 is the input itself, more are antithetic pairs. Raises GuidanceError for another odd count."""

    count: int = 4

    def __post_init__(self) -> None:
        if self.count != 1 and (self.count < 1 or self.count % 2):
            raise GuidanceError(f"copies must be 1 or an even number, as they come in pairs; got {self.count}.")

    def of(self, inputs: Tensor, spread: Tensor, seed: int, draws: Sequence[int], samples: Sequence[int]) -> Tensor:
        """The copies [count, B, ...] of inputs [B, ...], of which a sample's depend on seed, its draw and its place.

        spread [B]: the standard deviation of what is still unknown of the clean data. draws: one a sample, names the
        noise level. samples: the places of the inputs in the whole batch.
        """
        if self.count == 1:
            return inputs[None]
        pairs = self.count // 2
        named = [[draw * pairs + pair for draw in draws] for pair in range(pairs)]
        return torch.cat([self.pair(inputs, spread, seed, draws, samples) for draws in named])

    @abstractmethod
    def pair(self, inputs: Tensor, spread: Tensor, seed: int, draws: Sequence[int], samples: Sequence[int]) -> Tensor:
        """Two copies [2, B, ...] that vary in opposite ways."""


@frozen
class Noised(Copies):
    """Copies with normal noise of standard deviation amount * spread, plus and minus."""

    amount: float = 1.0

    def pair(self, inputs, spread, seed, draws, samples):
        noise = self.amount * expand(spread, inputs) * seeded_noise(inputs, seed, draws, samples)
        return torch.stack([inputs + noise, inputs - noise])


@frozen
class Shifted(Copies):
    """Copies of images moved by up to `share` of their sides, one way and the other; the edges are repeated."""

    share: float = 0.06

    def pair(self, inputs, spread, seed, draws, samples):
        offsets = 2 * self.share * _uniform(inputs, seed, draws, samples)
        return torch.stack([_moved(inputs, offsets), _moved(inputs, -offsets)])


def _uniform(inputs: Tensor, seed: int, draws: Sequence[int], samples: Sequence[int]) -> Tensor:
    """Two numbers in [-1, 1] a sample, [B, 2]."""
    normal = seeded_noise(inputs.new_zeros(len(inputs), 2), seed, draws, samples)
    return torch.special.erf(normal / 2**0.5)


def _moved(images: Tensor, offsets: Tensor) -> Tensor:
    """Images [B, C, H, W] moved by offsets [B, 2] (x, y), in halves of a side."""
    theta = torch.eye(2, 3, dtype=images.dtype, device=images.device).repeat(len(images), 1, 1)
    theta[:, :, 2] = offsets
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
