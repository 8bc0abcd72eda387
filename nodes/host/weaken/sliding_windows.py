"""Sliding windows: the model sees only a window of the picture at a time, and what it predicts is put together."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ....guidance_core.errors import GuidanceError
from ....guidance_core.params import number
from ..architectures import instead_of_a_pass
from .base import Weakening

STEP = 4  # latents are cut at multiples of this where they can be: UNets halve them twice and more
Window = tuple[slice, slice]  # rows and columns of the latent


@dataclass(frozen=True)
class SlidingWindows(Weakening):
    name = "sliding_windows"
    title = "Sliding windows (SWG)"
    doc = "Shows the model one window of the picture at a time: what is led away from has lost its large shapes."
    source = "SWG, Adaloglou et al. 2024, arXiv:2411.10257; four windows of 40 of 64 rows and columns"
    rank = 7
    size: float = number(
        0.625, 0.25, 0.95, 0.005, "Height and width of a window, as a share of the picture's: smaller is weaker."
    )

    def weakened(self, options, kind, network):
        def around(executor, x, t, c_concat, c_crossattn, control, inside, **kwargs):
            if x.ndim < 4 or "latent_shapes" in kwargs:
                raise GuidanceError(
                    f"'{self.name}' cuts pictures, not a latent of picture and sound: choose another way."
                )
            if control is not None:
                raise GuidanceError(
                    f"'{self.name}' cannot cut what a ControlNet gives: take the ControlNet out, or choose another way."
                )

            def predicted(window: Window) -> Tensor:
                def cut(given: object) -> object:
                    """What is laid out like the latent, cut with it."""
                    alike = isinstance(given, Tensor) and given.ndim >= 4 and given.shape[-2:] == x.shape[-2:]
                    return given[(..., *window)] if alike else given

                rest = {name: cut(value) for name, value in kwargs.items()}
                return executor(cut(x), t, cut(c_concat), c_crossattn, None, inside, **rest)

            return put_together(predicted, x, windows(x.shape[-2:], self.size))

        return instead_of_a_pass(options, "guidance_kit_windows", around)


def windows(sides: torch.Size, share: float) -> list[Window]:
    """Windows of a share of both sides, two along each or as many as cover it, evenly spread."""
    rows, columns = (_along(side, share) for side in sides)
    return [(down, across) for down in rows for across in columns]


def _along(side: int, share: float) -> list[slice]:
    length = min(max(STEP * round(share * side / STEP), STEP), side)
    count = max(2, math.ceil(side / length)) if length < side else 1
    starts = [round(i * (side - length) / max(count - 1, 1)) for i in range(count)]
    return [slice(start, start + length) for start in starts]


def put_together(predicted: Callable[[Window], Tensor], x: Tensor, cut: list[Window]) -> Tensor:
    """What is predicted in each window, at its place in a latent like x [B, C, ..., H, W]; the mean of overlaps."""
    total, count = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
    for window in cut:
        total[(..., *window)] += predicted(window)
        count[(..., *window)] += 1
    return total / count
