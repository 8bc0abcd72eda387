"""Windows of a sample: where they are, and one sample put together from what is computed in each."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

STEP = 4  # windows are cut in multiples of this where they can be: networks halve them twice and more
Window = tuple[slice, slice]  # rows and columns


def windows(sides: Sequence[int], share: float) -> list[Window]:
    """Windows of a share of rows and columns: two along each side or as many as cover it, evenly spread."""
    rows, columns = (_along(side, share) for side in sides)
    return [(down, across) for down in rows for across in columns]


def _along(side: int, share: float) -> list[slice]:
    length = min(max(STEP * round(share * side / STEP), STEP), side)
    count = max(2, math.ceil(side / length)) if length < side else 1
    starts = [round(i * (side - length) / max(count - 1, 1)) for i in range(count)]
    return [slice(start, start + length) for start in starts]


def put_together(computed: Callable[[Window], Tensor], x: Tensor, places: Sequence[Window]) -> Tensor:
    """What is computed of each window [B, C, ..., h, w], at its place in a sample like x; the mean where they overlap.

    The weaker prediction of sliding window guidance (arXiv:2411.10257).
    """
    total, count = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
    for place in places:
        total[(..., *place)] += computed(place)
        count[(..., *place)] += 1
    return total / count
