"""What every kind of variety shares: a scale, a schedule, seeded noise of each sample's own, and padding left alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ..frozen import frozen
from ..params import Checked, integer
from ..run import Run, level_of
from ..scale import ScaleSchedule
from ..tensors import seeded_noise

PLACES = 64  # tensors that one condition may have: tokens, pooled and so on


class Vary(Protocol):
    """A run of a variety."""

    def __call__(self, condition: Tensor, sigma: Tensor, place: int = 0) -> Tensor:
        """The condition [B, ..., D] varied at noise level sigma [B]; itself where the strength is 0.

        place: which tensor of the condition this is, below PLACES: each has noise of its own.
        """


@frozen
class Variety(Checked, ABC):
    """One way to put noise into a condition: a frozen dataclass of its parameters, scale and schedule among them.

    doc: what it does to the picture, in plain words. source: paper, or the software that it comes from.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    doc: ClassVar[str]
    source: ClassVar[str]

    scale: float
    schedule: ScaleSchedule
    variation: int = integer(0, 0, 0xFFFFFFFF, "Another number is another variety from the same noise.")

    @abstractmethod
    def noised(self, condition: Tensor, there: Tensor, level: float, strength: float, draw: Callable) -> Tensor:
        """The condition [B, ..., D] with noise in it; what it makes of padding is not used.

        there: where the condition is no padding, [B, ..., 1]. strength: of the schedule, above 0. draw: (number below
        2 ** 32) -> unit normal noise like the condition, the same for the same number.
        """

    def start(self, run: Run) -> Vary:
        """Open a run. Raises GuidanceError at a call whose samples are at different noise levels."""
        strength_at = self.schedule.over(run)

        def vary(condition: Tensor, sigma: Tensor, place: int = 0) -> Tensor:
            level = level_of(sigma)
            strength = strength_at(level)
            there = (condition != 0).any(-1, keepdim=True)
            if self.scale * strength == 0 or not bool(there.any()):
                return condition
            wide = condition.to(torch.promote_types(condition.dtype, torch.float32))
            draw = partial(_noise, wide, (run.seed + self.variation) * PLACES + place)
            return torch.where(there, self.noised(wide, there, level, strength, draw), wide).to(condition.dtype)

        return vary


def _noise(like: Tensor, seed: int, number: int) -> Tensor:
    return seeded_noise(like, seed, [number] * len(like))


def moments(a: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each sample of a [B, ..., D] over what is there [B, ..., 1]; like a, axes of 1."""
    axes, weight = tuple(range(1, a.ndim)), there.expand_as(a).to(a.dtype)
    count = weight.sum(axes, keepdim=True)
    mean = (a * weight).sum(axes, keepdim=True) / count.clamp(min=1)
    squares = ((a - mean).square() * weight).sum(axes, keepdim=True)
    return mean, (squares / (count - 1).clamp(min=1)).sqrt()
