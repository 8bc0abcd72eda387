"""An image file: its bytes are read once, so that what is hashed is what is decoded, and its size is not trusted."""

import hashlib
import io
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import GuidanceError, printable, shortened
from ..frozen import frozen

EXTENSIONS = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"))
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""What Pillow may take a file for, whatever its name: for others, such as PostScript, it would start programs."""
MAX_BYTES = 2**29
MAX_PIXELS = 2**26
"""8192 by 8192; a few hundred bytes can declare far more, which would be made room for."""
ASPECTS = ((1, 1), (3, 4), (4, 3), (2, 3), (3, 2), (9, 16), (16, 9))  # height to width

Size = tuple[int, int]  # height, width


@frozen
class ImageFile:
    """The bytes of an image file, and its name for sentences."""

    name: str
    content: bytes

    @classmethod
    def read(cls, file: Path) -> "ImageFile":
        """Read a file whole. Raises GuidanceError for what is no plain file or larger than MAX_BYTES."""
        try:
            return cls(file.name, _content(file))
        except (OSError, ValueError) as error:
            raise GuidanceError(f"'{printable(file.name)}' {_reason(error)}.") from error

    def digest(self, *more: object) -> str:
        """A hash of the bytes, and of whatever else is given."""
        whole = hashlib.sha256(repr(more).encode())
        whole.update(self.content)
        return whole.hexdigest()

    def pixels(self, *sizes: Size) -> Tensor:
        """The image as uint8 [H, W, 3]; sizes and errors: see read_picture."""
        try:
            image = _decoded(self.content)
        except GuidanceError:
            raise
        except Exception as error:  # a damaged file makes Pillow raise errors of any type
            raise GuidanceError(f"'{printable(self.name)}' {_reason(error)}.") from error
        if sizes:
            image = _cropped(image, sizes)
        return torch.from_numpy(np.array(image))


def read_picture(file: Path, *sizes: Size) -> Tensor:
    """A picture as float32 [H, W, 3] in [0, 1].

    sizes: (height, width), resized to cover it and cut around the centre; of several, the one whose aspect ratio is
    nearest to the picture's. Without any the picture keeps its own. Turned upright as its EXIF data say; what is
    transparent becomes white; of an animation the first frame; 16 bits become 8. Raises GuidanceError, with the file's
    name, for what cannot be read or is larger than MAX_BYTES or MAX_PIXELS.
    """
    return ImageFile.read(file).pixels(*sizes).float() / 255


def fault(file: Path) -> str:
    """Why a file cannot be read as a picture; "" when it can. Decodes all of it, a JPEG at an eighth of its size."""
    try:
        _decoded(_content(file), quick=True)
    except GuidanceError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise errors of any type
        return _reason(error)
    return ""


def aspect_sizes(size: int, multiple: int = 64) -> tuple[Size, ...]:
    """Sizes of about size * size pixels in the usual aspect ratios, sides multiples of `multiple`, the square first."""
    shapes = (
        (size * math.sqrt(tall / wide) / multiple, size * math.sqrt(wide / tall) / multiple) for tall, wide in ASPECTS
    )
    return tuple(dict.fromkeys((max(1, round(h)) * multiple, max(1, round(w)) * multiple) for h, w in shapes))


def _content(file: Path) -> bytes:
    """Raises OSError, or ValueError for what is no plain file: to open a pipe would wait for ever."""
    if not os.path.isfile(file):
        raise ValueError("it is not there, or no plain file")
    size = os.stat(file).st_size
    if size > MAX_BYTES:
        raise ValueError(f"it has {size / 2**20:.0f} MiB, and at most {MAX_BYTES // 2**20} are read")
    return file.read_bytes()


def _decoded(content: bytes, quick: bool = False):
    """A Pillow picture of mode RGB, upright. Raises whatever Pillow raises, and ValueError for one too large."""
    Image = _pillow()
    from PIL import ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strange metadata, and of pictures that are large but not too large
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"it has {image.width} by {image.height} pixels, {_AT_MOST}")
            if quick:
                image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I"):  # one channel of 16 bits, which some versions read as 32
                levels = (np.asarray(image).clip(0, 65535).astype(np.int32) + 128) // 257
                image = Image.fromarray(levels.astype(np.uint8))
            elif image.mode == "F":
                raise ValueError("its pixels are floating-point numbers, of unknown range: save it with 8 or 16 bits")
            if image.has_transparency_data:
                image = image.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
            return image.convert("RGB")


_AT_MOST = f"and at most {MAX_PIXELS / 1e6:.0f} million are read: make it smaller"


def _cropped(image, sizes: Sequence[Size]):
    height, width = min(sizes, key=lambda size: abs(math.log(size[0] * image.width / (size[1] * image.height))))
    zoom = max(height / image.height, width / image.width)
    left, top = (image.width - width / zoom) / 2, (image.height - height / zoom) / 2
    box = (max(left, 0), max(top, 0), min(left + width / zoom, image.width), min(top + height / zoom, image.height))
    return image.resize((width, height), _pillow().Resampling.LANCZOS, box)


def _reason(error: Exception) -> str:
    """Why a file cannot be read, without the path that errors of the system and of Pillow carry."""
    Image = _pillow()
    why = str(error)
    if isinstance(error, Image.UnidentifiedImageError):
        why = f"it is not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, or damaged at its beginning"
    elif isinstance(error, Image.DecompressionBombError):
        why = f"it has too many pixels, {_AT_MOST}"
    elif isinstance(error, OSError) and error.strerror:
        why = error.strerror
    return f"cannot be read as a picture ({shortened(why, 200)})"


def _pillow():
    try:
        from PIL import Image
    except ImportError as error:
        raise GuidanceError("Pictures are read with Pillow; install it with 'pip install pillow'.") from error
    return Image
