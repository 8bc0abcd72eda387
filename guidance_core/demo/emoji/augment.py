"""How pictures are varied for training: mirrored, moved, turned, made smaller, and some classes given another hue."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .classes import LABELS

_STEADY = tuple(LABELS.index(name) for name in ("flag", "clock"))
"""Neither mirrored nor turned: their writing and hands would be wrong."""
_ANY_HUE = tuple(LABELS.index(name) for name in ("heart", "vehicle", "building", "clock"))


def vary(images: Tensor, labels: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """images [N, 3, H, W] in [0, 1] on white, labels [N] -> varied copies on white."""
    batch, size = len(images), images.shape[-1]
    steady = torch.isin(labels, torch.tensor(_STEADY))
    draw = torch.rand(5, batch, generator=generator)
    angle = torch.deg2rad((2 * draw[0] - 1) * 8 * strength) * ~steady
    zoom = 1 + strength * (0.18 * draw[1] - 0.03)  # the picture becomes 0.97 to 1.15 times smaller
    mirror = torch.where((draw[2] < 0.5) & ~steady, -1.0, 1.0)
    move = (2 * draw[3:] - 1) * 3 * strength * 2 / size
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    theta = torch.stack([mirror * cos, -sin, move[0], mirror * sin, cos, move[1]], 1).reshape(batch, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = 1 - F.grid_sample(1 - images, grid, mode="bicubic", align_corners=False)
    return turn_hue(moved.clamp(0, 1), labels, generator)


def turn_hue(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures of classes that come in any colour, turned about the grey axis by any angle."""
    draw = torch.rand(2, len(images), generator=generator)
    angle = 2 * torch.pi * draw[0] * ((draw[1] < 0.5) & torch.isin(labels, torch.tensor(_ANY_HUE)))
    cos, sin = angle.cos(), angle.sin() / 3**0.5
    near, ahead, behind = (1 + 2 * cos) / 3, (1 - cos) / 3 - sin, (1 - cos) / 3 + sin
    rows = [near, ahead, behind, behind, near, ahead, ahead, behind, near]
    return torch.einsum("nij,njhw->nihw", torch.stack(rows, 1).reshape(-1, 3, 3), images).clamp(0, 1)


def mixed(images: Tensor, shares: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """images [N, 3, H, H] each mixed with another, and with them shares [N, K], what of each class is in them.

    Half of the calls lay one over the other (mixup, arXiv:1710.09412), half put a square of one into the other
    (CutMix, arXiv:1905.04899); at most half of a picture is another's.
    """
    share = 0.5 * float(torch.rand(1, generator=generator)) ** 2
    other = torch.randperm(len(images), generator=generator)
    if torch.rand(1, generator=generator) < 0.5:
        return images.lerp(images[other], share), shares.lerp(shares[other], share)
    size = images.shape[-1]
    side = int(size * share**0.5)
    top, left = torch.randint(0, size - side + 1, (2,), generator=generator).tolist()
    square = (..., slice(top, top + side), slice(left, left + side))
    images = images.clone()
    images[square] = images[other][square]
    return images, shares.lerp(shares[other], (side / size) ** 2)
