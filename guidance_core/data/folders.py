"""Labelled pictures from disk: one folder a class, tags beside each picture, or a CSV table; read when asked for.

pictures = read_folder("my_pictures")              # or scan_folder, which tells its progress
source = PictureSource(pictures.files, pictures.targets, size=(64, 64))
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..classifier.heads import Head
from ..classifier.heads.multi import MultiLabel
from ..classifier.heads.regression import Regression
from ..classifier.heads.single import SingleLabel
from ..classifier.names import as_labels
from ..errors import GuidanceError, printable
from ..progress import Progress, Work, run_to_end
from .image_file import EXTENSIONS, fault
from .layouts.base import Found, Picture, Skipped, images_below, name_in, why_not
from .layouts.captions import from_captions
from .layouts.classes import class_folders, from_classes
from .layouts.table import from_table, table_of

MINIMUM = 5


@dataclass(frozen=True)
class PictureFolder:
    """Labelled pictures in a fixed order, the names of their labels (or scores), and the head that fits them.

    head: SingleLabel where each picture has one label, MultiLabel where some have several, Regression for scores.
    left_out: tags that too few pictures have, or lack.
    """

    items: tuple[Picture, ...]
    labels: tuple[str, ...]
    head: Head
    skipped: tuple[Skipped, ...] = ()
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(as_labels(self.labels)))

    @property
    def files(self) -> list[Path]:
        return [item.path for item in self.items]

    @property
    def targets(self) -> Tensor:
        """What is to be learned, as Source.labels: long [N], or float [N, K] for tags and scores."""
        return self.head.of_pictures(self.items, self.labels)


def read_folder(folder: str | os.PathLike, minimum: int = MINIMUM) -> PictureFolder:
    """As scan_folder, without the progress."""
    return run_to_end(scan_folder(folder, minimum))


def scan_folder(folder: str | os.PathLike, minimum: int = MINIMUM) -> Work[PictureFolder]:
    """Find the labelled pictures of a folder and open each one, so that damaged pictures are left out by name.

    A CSV table in the folder, or given in its place, says what is what: its header names a `file` column and either a
    `label` column (`cat`, or `cat|outdoors` for several) or one column for each score. Without a table every sub-folder
    is a class, searched to its depth. Without sub-folders each picture has its tags beside it, in `name.txt` for
    `name.png`, separated by commas; upper and lower case are one.

    Hidden files are not looked at. A class of fewer than `minimum` pictures is refused; a tag that fewer have, or that
    fewer lack, is left out, for there is nothing to tell it by.
    Raises GuidanceError at once for a folder without labelled pictures or a table that cannot be read or leads out of
    its folder, and at the end for classes that are too small.
    """
    folder = Path(folder)
    table = table_of(folder)
    root = (folder.parent if table == folder else folder).resolve()
    classes = class_folders(root) if table is None else []
    if table is not None:
        found = from_table(table, root)
    elif classes:
        found = from_classes(classes, root)
    else:
        found = from_captions(root)
    if not found.items:
        raise GuidanceError(f"There is no labelled picture in '{_called(folder)}'{_first(found.skipped)}.")
    return _scan(found, root, minimum)


def scan_images(folder: str | os.PathLike) -> Work[tuple[list[Path], list[Skipped]]]:
    """Every picture of a folder, to its depth, whatever it shows, and what is not used; each is opened, as above."""
    root = Path(folder).resolve()
    files, skipped = yield from _opened(sorted(images_below(root)), root)
    if not files:
        raise GuidanceError(
            f"There is no picture in '{_called(root)}' that can be read ({', '.join(sorted(EXTENSIONS))})"
            f"{_first(skipped)}."
        )
    return files, skipped


def _scan(found: Found, root: Path, minimum: int) -> Work[PictureFolder]:
    good, skipped = yield from _opened([item.path for item in found.items], root)
    kept = set(good)
    items = [item for item in found.items if item.path in kept]
    return _sorted_out(replace(found, items=items, skipped=[*found.skipped, *skipped]), minimum)


def _opened(files: Sequence[Path], root: Path) -> Work[tuple[list[Path], list[Skipped]]]:
    """The files below a folder that can be read as pictures, and why the others cannot."""
    good, skipped = [], []
    for done, file in enumerate(files, 1):
        reason = why_not(file, root) or fault(file)
        if reason:
            skipped.append(Skipped(name_in(file, root), reason))
        else:
            good.append(file)
        yield Progress(done, len(files))
    return good, skipped


def _sorted_out(found: Found, minimum: int) -> PictureFolder:
    """Names and head of what was found, once every label has pictures enough."""
    items, skipped = tuple(found.items), tuple(found.skipped)
    if found.scores:
        if len(items) < minimum:
            raise GuidanceError(
                f"There are {len(items)} pictures with scores, and at least {minimum} are needed{_first(skipped)}."
            )
        return PictureFolder(items, found.scores, Regression(), skipped)
    counts = Counter(dict.fromkeys(found.classes, 0))
    counts.update(label for item in items for label in item.labels)
    if any(len(item.labels) > 1 for item in items):
        names = tuple(sorted(name for name in counts if minimum <= counts[name] <= len(items) - minimum))
        if not names:
            raise GuidanceError(
                f"No tag can be learned: of a tag at least {minimum} pictures must have it, and {minimum} must not"
                f"{_first(skipped)}."
            )
        return PictureFolder(items, names, MultiLabel(), skipped, tuple(sorted(counts.keys() - set(names))))
    names, few = tuple(sorted(counts)), sorted(name for name in counts if counts[name] < minimum)
    if few:
        listing = ", ".join(f"'{name}' has {counts[name]}" for name in few[:10])
        raise GuidanceError(
            f"Each label needs at least {minimum} pictures: {listing}{_more(few, 10)}. Add pictures or leave the label "
            f"out{_first(skipped)}."
        )
    if len(names) < 2:
        raise GuidanceError(
            f"All pictures have the label '{names[0]}': a classifier needs at least 2 labels (or negatives made by the "
            f"model itself)."
        )
    return PictureFolder(items, names, SingleLabel(), skipped)


def _called(folder: Path) -> str:
    return printable(folder.name or str(folder))


def _first(skipped: Sequence[Skipped], count: int = 3) -> str:
    """The first skipped files in brackets, for a sentence."""
    if not skipped:
        return ""
    listing = "; ".join(f"'{one.name}' {one.reason}" for one in skipped[:count])
    return f" (not used: {listing}{_more(skipped, count)})"


def _more(things: Sequence, shown: int) -> str:
    return f", and {len(things) - shown} more" if len(things) > shown else ""
