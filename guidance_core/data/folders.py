"""Labelled pictures from disk: one folder a class, tags beside each picture, or a CSV table; read when asked for.

pictures = read_folder("my_pictures")              # or scan_folder, which tells its progress
source = PictureSource(pictures.files, pictures.targets, size=(64, 64))
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..classifier.heads import Head
from ..classifier.names import as_labels
from ..errors import GuidanceError, printable
from ..frozen import frozen
from ..progress import Progress, Work, run_to_end
from .image_file import EXTENSIONS, fault
from .labelling import Tally, decided, first
from .layouts.base import Found, Picture, Skipped, images_below, images_in, name_in, why_not
from .layouts.captions import from_captions
from .layouts.classes import class_folders, from_classes
from .layouts.table import from_table, table_of

MINIMUM = 5


@frozen
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
    found, root = find_labelled(Path(folder))
    return _scan(found, root, minimum)


def find_labelled(folder: Path) -> tuple[Found, Path]:
    """(the labelled pictures of a folder or table, its root without links), none of them opened; raises as above."""
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
        raise GuidanceError(f"There is no labelled picture in '{_called(folder)}'{first(found.skipped)}.")
    return found, root


def is_unlabelled(folder: str | os.PathLike) -> bool:
    """Whether nothing in a folder says what its pictures show: no table, no sub-folder, no caption beside any."""
    folder = Path(folder)
    if table_of(folder) is not None or class_folders(folder):
        return False
    return not any(os.path.lexists(file.with_suffix(".txt")) for file in images_in(folder))


def scan_images(folder: str | os.PathLike) -> Work[tuple[list[Path], list[Skipped]]]:
    """Every picture of a folder, to its depth, whatever it shows, and what is not used; each is opened, as above."""
    root = Path(folder).resolve()
    files, skipped = yield from _opened(sorted(images_below(root)), root)
    if not files:
        raise GuidanceError(
            f"There is no picture in '{_called(root)}' that can be read ({', '.join(sorted(EXTENSIONS))})"
            f"{first(skipped)}."
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
    labelling = decided(Tally.of(items, found.classes, found.scores), minimum, skipped)
    return PictureFolder(items, labelling.names, labelling.head, skipped, labelling.left_out)


def _called(folder: Path) -> str:
    return printable(folder.name or str(folder))
