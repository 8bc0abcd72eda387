"""The digits: 1797 real handwritten numerals that come with scikit-learn, at 16x16, with a fixed held-out part."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import GuidanceError
from ..frozen import frozen

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHAPE = (1, 16, 16)
ABOUT = {
    "author": "Guidance Kit contributors",
    "licence": "MIT",
    "data": "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak 1998, UCI Machine Learning "
    "Repository, doi:10.24432/C50P49, as bundled with scikit-learn",
    "data_licence": "CC BY 4.0",
}
"""What the files of weights say of themselves."""


@frozen
class Digits:
    """images [N, 16, 16] in [0, 1], bright strokes on dark; labels long [N]."""

    images: Tensor
    labels: Tensor

    @property
    def x0(self) -> Tensor:
        """The images as the diffusion model's data, [N, 1, 16, 16] in [-1, 1]."""
        return 2 * self.images[:, None] - 1


def to_image(x0: Tensor) -> Tensor:
    """x0 [B, 1, 16, 16] -> images [B, 16, 16] in [0, 1]."""
    return ((x0[:, 0].float() + 1) / 2).clamp(0, 1)


def enlarge(images: Tensor) -> Tensor:
    """[N, 8, 8] -> [N, 16, 16], smooth, whose 2x2 averages give the original back (but for the clamp to [0, 1])."""
    target = images[:, None]
    large = torch.zeros(len(images), 1, 16, 16)
    for _ in range(8):  # back-projection: add what the average still lacks
        lacking = target - F.avg_pool2d(large, 2)
        large = (large + F.interpolate(lacking, scale_factor=2, mode="bicubic", align_corners=False)).clamp(0, 1)
    return large[:, 0]


def load_digits() -> tuple[Digits, Digits]:
    """(train, held out): a fixed stratified split, 15 % held out.

    Raises GuidanceError where scikit-learn, which brings the images, is not installed.
    """
    try:
        from sklearn.datasets import load_digits as bundled
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise GuidanceError("The digits come with scikit-learn; install it with 'pip install scikit-learn'.") from error
    digits = bundled()
    images = enlarge(torch.tensor(digits.images, dtype=torch.float32) / 16)
    labels = torch.tensor(digits.target, dtype=torch.long)
    places = range(len(labels))
    train, held_out = train_test_split(places, test_size=0.15, random_state=0, stratify=digits.target)
    return Digits(images[train], labels[train]), Digits(images[held_out], labels[held_out])


def jitter(x0: Tensor, generator: torch.Generator, shift: float, degrees: float, zoom: float) -> Tensor:
    """Each image [B, 1, H, W] moved by up to `shift` pixels, turned by up to `degrees` and zoomed by up to `zoom`.

    Uniform draws; outside of the image lies the background, -1.
    """
    batch, size = x0.shape[0], x0.shape[-1]
    draw = 2 * torch.rand(4, batch, generator=generator, device=x0.device) - 1
    angle, factor = torch.deg2rad(draw[0] * degrees), 1 + draw[1] * zoom
    cos, sin = factor * angle.cos(), factor * angle.sin()
    move = draw[2:] * shift * 2 / size
    theta = torch.stack([cos, -sin, move[0], sin, cos, move[1]], 1).reshape(batch, 2, 3)
    grid = F.affine_grid(theta, list(x0.shape), align_corners=False)
    return F.grid_sample(x0 + 1, grid, mode="bicubic", align_corners=False).clamp(0, 2) - 1
