"""Picture files as training examples: read when they are asked for, cropped to one size."""

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..errors import GuidanceError
from ..frozen import frozen
from .image_file import ImageFile, Size
from .sources import joined

KEPT_BYTES = 2**31  # a PictureSource of up to this size keeps in memory what it has read


@frozen(eq=False)
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
            pixels = ImageFile.read(self.files[index]).pixels(self.size)
            if len(self) * math.prod(self.shape) > KEPT_BYTES:
                return pixels
            self._kept[index] = pixels
        return self._kept[index]

    @cached_property
    def _kept(self) -> dict[int, Tensor]:
        return {}

    @cached_property
    def _digests(self) -> list[str]:
        return [ImageFile.read(file).digest() for file in self.files]
