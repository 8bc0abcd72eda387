"""A plain sheet of pictures in rows, to be looked at."""

from pathlib import Path

import torch
from torch import Tensor


def write_sheet(rows: list[Tensor], file: Path, zoom: int = 1) -> None:
    """Rows of images [N, 3, 64, 64] in [0, 1] as a PNG file, each row from left to right."""
    from PIL import Image

    sheet = torch.cat([torch.cat(list(row), 2) for row in rows], 1)
    image = Image.fromarray((sheet.permute(1, 2, 0) * 255).round().byte().numpy())
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST).save(file)
