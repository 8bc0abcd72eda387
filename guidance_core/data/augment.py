"""Variations of latents that keep their statistics: nothing is blurred or blended, only moved or left out."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import GuidanceError
from ..tensors import expand

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""(x0 [B, C, ..., H, W], generator) -> x0, with other height and width if need be. A video's frames move as one."""


def flip(x0: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the samples, chosen at random, mirrored left to right."""
    return torch.where(expand(_draw(2, x0, generator), x0) == 1, x0.flip(-1), x0)


def shift(x0: Tensor, generator: torch.Generator) -> Tensor:
    """Each sample moved by whole positions, up to an eighth of its height and width; the edge is repeated."""

    def moved(size: int) -> Tensor:
        by = _draw(2 * (size // 8) + 1, x0, generator) - size // 8
        return (by[:, None] + torch.arange(size, device=x0.device)).clamp(0, size - 1)

    return _windows(x0, *map(moved, x0.shape[-2:]))


def crop(x0: Tensor, generator: torch.Generator) -> Tensor:
    """A window cut out of each sample, 3/4 to all of its height and width; the same size for a whole batch."""

    def window(size: int) -> Tensor:
        kept = size - int(_draw(size // 4 + 1, x0[:1], generator))
        return _draw(size - kept + 1, x0, generator)[:, None] + torch.arange(kept, device=x0.device)

    return _windows(x0, *map(window, x0.shape[-2:]))


AUGMENTS: dict[str, Augment] = {"flip": flip, "shift": shift, "crop": crop}


def augmentation(names: Sequence[str]) -> Augment | None:
    """The named variations one after the other; None without names. Raises GuidanceError for an unknown name."""
    for name in names:
        if name not in AUGMENTS:
            raise GuidanceError(f"There is no augmentation '{name}'; choose from {', '.join(AUGMENTS)}.")
    if not names:
        return None

    def all_of_them(x0: Tensor, generator: torch.Generator) -> Tensor:
        for name in names:
            x0 = AUGMENTS[name](x0, generator)
        return x0

    return all_of_them


def _draw(below: int, x0: Tensor, generator: torch.Generator) -> Tensor:
    """A whole number in [0, below) for each sample, [B], on x0's device."""
    return torch.randint(below, (len(x0),), generator=generator, device=generator.device).to(x0.device)


def _windows(x0: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x0 at rows [B, H'] and columns [B, W'] of each sample: [B, C, ..., H', W']."""
    samples = torch.arange(len(x0), device=x0.device)[:, None, None]
    return x0.movedim((-2, -1), (1, 2))[samples, rows[:, :, None], columns[:, None, :]].movedim((1, 2), (-2, -1))
