"""Reading a picture file, whatever its format, as [H, W, 3] in [0, 1]; and pictures on disk as training examples."""

import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import GuidanceError
from .sources import joined

EXTENSIONS = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"))
ASPECTS = ((1, 1), (3, 4), (4, 3), (2, 3), (3, 2), (9, 16), (16, 9))  # height to width
KEPT_BYTES = 2**31  # a PictureSource of up to this size keeps in memory what it has read
BLOCK = 2**20

Size = tuple[int, int]  # height, width


def read_picture(file: Path, *sizes: Size) -> Tensor:
    """A picture as float32 [H, W, 3] in [0, 1].

    sizes: (height, width), resized to cover it and cut around the centre; of several, the one whose aspect ratio is
    nearest to the picture's. Without any the picture keeps its own. Turned upright as its EXIF data say; what is
    transparent becomes white; of an animation the first frame; 16 bits become 8. Raises GuidanceError, with the file's
    name, for what cannot be read.
    """
    return _pixels(file, sizes).float() / 255


def fault(file: Path) -> str:
    """Why a file cannot be read as a picture; "" when it can. Decodes all of it, a JPEG at an eighth of its size."""
    try:
        _decoded(file, quick=True)
    except GuidanceError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise errors of any type
        return f"cannot be read as a picture ({error})"
    return ""


def aspect_sizes(size: int, multiple: int = 64) -> tuple[Size, ...]:
    """Sizes of about size * size pixels in the usual aspect ratios, sides multiples of `multiple`, the square first."""
    shapes = (
        (size * math.sqrt(tall / wide) / multiple, size * math.sqrt(wide / tall) / multiple) for tall, wide in ASPECTS
    )
    return tuple(dict.fromkeys((max(1, round(h)) * multiple, max(1, round(w)) * multiple) for h, w in shapes))


def digest(file: Path, *more: object) -> str:
    """A hash of a file's bytes, and of whatever else is given, read a block at a time."""
    whole = hashlib.sha256(repr(more).encode())
    with open(file, "rb") as stream:
        while block := stream.read(BLOCK):
            whole.update(block)
    return whole.hexdigest()


@dataclass(frozen=True, eq=False)
class PictureSource:
    """Pictures themselves as training examples (a Source), [3, height, width] in [-1, 1], cropped to one size.

    targets: as Source.labels. Files are read when they are asked for, and their pixels kept where all of them take less
    than KEPT_BYTES. Raises GuidanceError for counts that differ or a size below 1.
    """

    files: Sequence[Path]
    targets: Tensor
    size: Size

    def __post_init__(self) -> None:
        if len(self.files) != len(self.targets):
            raise GuidanceError(
                f"Every picture needs one label: got {len(self.files)} pictures and {len(self.targets)} labels."
            )
        if min(self.size) < 1:
            raise GuidanceError(f"The size of pictures must be at least 1 by 1, got {self.size[0]} by {self.size[1]}.")

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, *self.size)

    @property
    def labels(self) -> Tensor:
        return self.targets

    @cached_property
    def groups(self) -> Tensor:
        return joined(range(len(self)), self._digests)

    def load(self, indices: Tensor) -> Tensor:
        pixels = torch.stack([self._read(index) for index in indices.tolist()])
        return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1

    def fingerprint(self) -> str:
        whole = hashlib.sha256(repr((self.size, self._digests, self.targets.tolist())).encode())
        return whole.hexdigest()

    def _read(self, index: int) -> Tensor:
        if index not in self._kept:
            pixels = _pixels(self.files[index], (self.size,))
            if len(self) * math.prod(self.shape) > KEPT_BYTES:
                return pixels
            self._kept[index] = pixels
        return self._kept[index]

    @cached_property
    def _kept(self) -> dict[int, Tensor]:
        return {}

    @cached_property
    def _digests(self) -> list[str]:
        return [digest(file) for file in self.files]


def _pixels(file: Path, sizes: Sequence[Size]) -> Tensor:
    """uint8 [H, W, 3]."""
    try:
        image = _decoded(file)
    except GuidanceError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise errors of any type
        raise GuidanceError(f"'{file.name}' cannot be read as a picture ({error}).") from error
    if sizes:
        height, width = min(sizes, key=lambda size: abs(math.log(size[0] * image.width / (size[1] * image.height))))
        zoom = max(height / image.height, width / image.width)
        left, top = (image.width - width / zoom) / 2, (image.height - height / zoom) / 2
        box = (max(left, 0), max(top, 0), min(left + width / zoom, image.width), min(top + height / zoom, image.height))
        image = image.resize((width, height), _pillow().Resampling.LANCZOS, box)
    return torch.from_numpy(np.array(image))


def _decoded(file: Path, quick: bool = False):
    """A Pillow picture of mode RGB, upright. Raises whatever Pillow raises."""
    Image = _pillow()
    from PIL import ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strange metadata, and of pictures that are large but not too large
        with Image.open(file) as image:
            if quick:
                image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # one channel of 16 bits, which some versions read as 32
                levels = np.asarray(image).astype(np.float64) / 257
                image = Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
            elif image.mode == "F":
                raise ValueError("its pixels are floating-point numbers, of unknown range: save it with 8 or 16 bits")
            if image.has_transparency_data:
                image = image.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
            return image.convert("RGB")


def _pillow():
    try:
        from PIL import Image
    except ImportError as error:
        raise GuidanceError("Pictures are read with Pillow; install it with 'pip install pillow'.") from error
    return Image
