"""Images of tensors, side by side in one PNG file."""

import os

import numpy as np
import torch
from torch import Tensor

from ..errors import GuidanceError
from .plot import BACKGROUND, write_png

IN_A_ROW = 10
SMALLEST = 96  # pixels along a side of an image; smaller ones are enlarged by a whole factor


def save_images(images: Tensor, file: str | os.PathLike, columns: int = IN_A_ROW) -> None:
    """Write images [B, H, W] or [B, 3, H, W] in [0, 1] as one PNG file, in rows of so many.

    Raises GuidanceError for a tensor that is no batch of images, and where the file cannot be written.
    """
    write_png(in_rows(images, columns), file)


def in_rows(images: Tensor, columns: int = IN_A_ROW) -> np.ndarray:
    """The same as uint8 [height, width, 3]."""
    if not isinstance(images, Tensor) or not (images.ndim == 3 or images.ndim == 4 and images.shape[1] == 3):
        given = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise GuidanceError(
            f"images must be a tensor [B, H, W] or [B, 3, H, W] in [0, 1], got {given}: decode latents first, as with "
            f"the demo's to_image(x0)."
        )
    if not len(images):
        raise GuidanceError("There are no images to draw: the batch is empty.")
    pixels = images if images.ndim == 4 else images[:, None].expand(-1, 3, -1, -1)
    pixels = pixels.detach().float().cpu().clamp(0, 1).mul(255).round().byte()
    zoom = max(1, -(-SMALLEST // min(pixels.shape[2:])))
    pixels = pixels.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3).permute(0, 2, 3, 1)  # [B, H, W, 3]
    count, height, width = pixels.shape[:3]
    columns = min(columns, count)
    gap = max(2, min(height, width) // 24)
    rows = -(-count // columns)
    sheet = torch.tensor(BACKGROUND, dtype=torch.uint8).repeat(
        rows * (height + gap) + gap, columns * (width + gap) + gap, 1
    )
    for i, image in enumerate(pixels):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet.numpy()
