"""Labelled images to encode, in units of work that do not depend on how many processes there are."""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

from ..data.folders import find_labelled
from ..data.image_file import ImageFile
from ..data.labelling import Tally
from ..data.layouts.base import Picture, Skipped, name_in, why_not
from ..frozen import frozen

UNIT = 2048
"""Images of a unit of work: with latents of 4 x 64 x 64 in half precision its shards have 64 MiB."""


@frozen
class Sample:
    """An image that is not yet read, its name for people, and its labels or scores. read: raises GuidanceError."""

    name: str
    read: Callable[[], ImageFile]
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()


class Samples(Protocol):
    """Labelled images, in `units` parts of a fixed order. identity: plain values that change when they do."""

    @property
    def units(self) -> int: ...

    @property
    def tally(self) -> Tally: ...

    @property
    def identity(self) -> list: ...

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What is not even tried."""

    def read(self, unit: int) -> Iterator[Sample | Skipped]:
        """The images of a unit, in order, and what cannot be one of them."""


@frozen
class FolderSamples:
    """The labelled images of a folder or a CSV table (see data.folders), `unit` of them at a time."""

    items: tuple[Picture, ...]
    root: Path
    tally: Tally
    skipped: tuple[Skipped, ...]
    unit: int = UNIT

    @classmethod
    def find(cls, folder: Path, unit: int = UNIT) -> "FolderSamples":
        """None of them is opened. Raises GuidanceError as data.folders.scan_folder does."""
        found, root = find_labelled(folder)
        tally = Tally.of(found.items, found.classes, found.scores)
        return cls(tuple(found.items), root, tally, tuple(found.skipped), unit)

    @property
    def units(self) -> int:
        return -(-len(self.items) // self.unit)

    @property
    def identity(self) -> list:
        whole = hashlib.sha256()
        for item in self.items:
            whole.update(repr((name_in(item.path, self.root), item.labels, item.scores)).encode())
        return [len(self.items), whole.hexdigest()]

    def read(self, unit: int) -> Iterator[Sample | Skipped]:
        for item in self.items[unit * self.unit : (unit + 1) * self.unit]:
            name = name_in(item.path, self.root)
            if reason := why_not(item.path, self.root):
                yield Skipped(name, reason)
            else:
                yield Sample(name, partial(ImageFile.read, item.path), item.labels, item.scores)
