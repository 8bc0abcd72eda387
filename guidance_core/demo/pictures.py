"""How digits look as pictures, in two colours with crisp strokes; and the two folders of pictures that come along.

`python -m guidance_core.demo.pictures` writes the folders anew, from the digits that the demo was trained on.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

PAPER = (0.055, 0.067, 0.125)
INK = (1.0, 0.925, 0.78)
SOFT = 0.15  # tones this near to paper or ink are taken as paper or ink, which gives the enlarged strokes crisp edges
ZOOM = 8  # pixels a latent
PROJECTIONS = 8
FOLDER = Path(__file__).parent / "pictures"
SHOWN = {"three": 3, "seven": 7}
EACH = 40


def crisp(tone: Tensor) -> Tensor:
    """A smooth step from paper to ink over the tones from SOFT to 1 - SOFT."""
    t = ((tone - SOFT) / (1 - 2 * SOFT)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def uncrisp(tone: Tensor) -> Tensor:
    """The inverse of crisp, with paper and ink themselves at 0 and 1."""
    t = 0.5 - torch.sin(torch.asin((1 - 2 * tone).clamp(-1, 1)) / 3)
    return torch.where(tone <= 0, 0.0, torch.where(tone >= 1, 1.0, SOFT + (1 - 2 * SOFT) * t))


def tones(x0: Tensor) -> Tensor:
    """x0 [B, 1, H, W] in [-1, 1] -> crisp tones [B, 1, 8 H, 8 W], 0 paper to 1 ink."""
    return crisp((F.interpolate(x0, scale_factor=ZOOM, mode="bicubic") + 1) / 2)


def coloured(x0: Tensor) -> Tensor:
    """x0 [B, 1, H, W] in [-1, 1] -> [B, 3, 8 H, 8 W] in [0, 1], ink on paper."""
    paper, ink = (torch.tensor(colour, device=x0.device).reshape(1, 3, 1, 1) for colour in (PAPER, INK))
    return paper + tones(x0) * (ink - paper)


def latents(tone: Tensor) -> Tensor:
    """The inverse of tones [B, 1, 8 H, 8 W], but for values that crispness takes as paper or ink."""
    smooth = uncrisp(tone)
    x0 = F.avg_pool2d(2 * smooth - 1, ZOOM)
    for _ in range(PROJECTIONS):  # back-projection: add what the enlarged picture still lacks
        x0 = (x0 + 2 * F.avg_pool2d(smooth - uncrisp(tones(x0)), ZOOM)).clamp(-1, 1)
    return x0


def main() -> None:
    from PIL import Image

    from .data import load_digits

    digits, _ = load_digits()
    for name, label in SHOWN.items():
        folder = FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        chosen = digits.x0[digits.labels == label][:EACH]
        for i, pixels in enumerate(coloured(chosen)):
            image = Image.fromarray(pixels.permute(1, 2, 0).mul(255).round().byte().numpy())
            image.quantize(32).save(folder / f"{i:02}.png", optimize=True)


if __name__ == "__main__":
    main()
