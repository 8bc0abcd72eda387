"""Labelled pictures from disk: one folder a class, tags beside each picture, or a CSV table; read when asked for.

pictures = read_folder("my_pictures")              # or scan_folder, which tells its progress
source = PictureSource(pictures.files, pictures.targets, size=(64, 64))
"""

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

from torch import Tensor

from ..classifier.heads import Head
from ..classifier.heads.multi import MultiLabel
from ..classifier.heads.regression import Regression
from ..classifier.heads.single import SingleLabel
from ..classifier.names import as_labels, composed
from ..errors import GuidanceError
from ..progress import Progress, Work, run_to_end
from .images import EXTENSIONS, fault

MINIMUM = 5


@dataclass(frozen=True)
class Picture:
    """A picture file and what was said of it: its labels, or its scores."""

    path: Path
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(map(composed, self.labels)))  # macOS takes folders' names apart


@dataclass(frozen=True)
class Skipped:
    """A file that is not used, by its name in the folder, and why."""

    name: str
    reason: str


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


@dataclass(frozen=True)
class _Found:
    """What a folder holds before any picture is opened; classes must have pictures; scores are names of columns."""

    items: list[Picture]
    skipped: list[Skipped]
    classes: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()


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
    table = _table(folder)
    root = (folder.parent if table == folder else folder).resolve()
    classes = [entry for entry in _visible(root) if entry.is_dir()] if table is None else []
    if table is not None:
        found = _from_table(table, root)
    elif classes:
        found = _from_classes(classes, root)
    else:
        found = _from_captions(root)
    if not found.items:
        raise GuidanceError(f"There is no labelled picture in '{folder}'{_first(found.skipped)}.")
    return _scan(found, root, minimum)


def _scan(found: _Found, root: Path, minimum: int) -> Work[PictureFolder]:
    items, skipped = [], list(found.skipped)
    for done, item in enumerate(found.items, 1):
        reason = _why_not(item.path, root)
        if reason:
            skipped.append(Skipped(_name(item.path, root), reason))
        else:
            items.append(item)
        yield Progress(done, len(found.items))
    return _sorted_out(replace(found, items=items, skipped=skipped), minimum)


def _sorted_out(found: _Found, minimum: int) -> PictureFolder:
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


def _table(folder: Path) -> Path | None:
    """The CSV table that rules a folder, if any."""
    if folder.is_file() and folder.suffix.lower() == ".csv":
        return folder
    if not folder.is_dir():
        raise GuidanceError(f"There is no folder '{folder}'.")
    tables = [entry for entry in _visible(folder) if entry.suffix.lower() == ".csv" and entry.is_file()]
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise GuidanceError(f"There are several CSV tables in '{folder}' ({names}): keep one, or give its own path.")
    return tables[0] if tables else None


def _from_classes(classes: Sequence[Path], root: Path) -> _Found:
    items = []
    for folder in classes:
        files = (Path(place, name) for place, inner, names in _walk(folder) for name in names)
        items += [Picture(file, (folder.name,)) for file in files if file.suffix.lower() in EXTENSIONS]
    beside = [entry for entry in _visible(root) if entry.suffix.lower() in EXTENSIONS]
    skipped = [Skipped(entry.name, "lies beside the folders of the classes") for entry in beside]
    return _Found(items, skipped, classes=tuple(composed(folder.name) for folder in classes))


def _from_captions(root: Path) -> _Found:
    items, skipped, spelling = [], [], {}
    for file in (entry for entry in _visible(root) if entry.suffix.lower() in EXTENSIONS):
        caption = file.with_suffix(".txt")
        if not caption.is_file():
            skipped.append(Skipped(file.name, f"has no caption '{caption.name}' beside it"))
            continue
        words = (" ".join(tag.split()) for tag in _text(caption).replace("\n", ",").split(","))
        tags = dict.fromkeys(spelling.setdefault(tag.casefold(), tag) for tag in words if tag)
        if tags:
            items.append(Picture(file, tuple(tags)))
        else:
            skipped.append(Skipped(file.name, f"its caption '{caption.name}' is empty"))
    return _Found(items, skipped)


def _from_table(table: Path, root: Path) -> _Found:
    try:
        rows = list(csv.reader(io.StringIO(_text(table), newline=""), strict=True))
    except csv.Error as error:
        raise GuidanceError(f"'{table.name}' is not a CSV table ({error}).") from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if "file" not in header or len(header) < 2 or len(set(header)) < len(header) or not all(header):
        raise GuidanceError(
            f"'{table.name}' must begin with a header of different names such as 'file,label' or 'file,score'; it "
            f"begins with '{','.join(rows[0]) if rows else ''}'."
        )
    labelled = next((header.index(name) for name in ("label", "labels") if name in header), None)
    scores = () if labelled is not None else tuple(name for name in header if name != "file")
    items, skipped, seen = [], [], {}
    for number, row in enumerate(rows[1:], 2):
        where = f"'{table.name}', row {number}"
        if not any(map(str.strip, row)):
            continue
        if len(row) != len(header):
            raise GuidanceError(f"{where}: {len(row)} values for the {len(header)} columns {', '.join(header)}.")
        file = _inside(row[header.index("file")].strip(), root, where)
        if file in seen:
            raise GuidanceError(f"{where}: '{_name(file, root)}' is already in row {seen[file]}.")
        seen[file] = number
        if labelled is None:
            values = [value for name, value in zip(header, row, strict=True) if name != "file"]
            items.append(Picture(file, scores=tuple(_score(value, where) for value in values)))
            continue
        labels = dict.fromkeys(label.strip() for label in row[labelled].split("|") if label.strip())
        if labels:
            items.append(Picture(file, tuple(labels)))
        else:
            skipped.append(Skipped(_name(file, root), "has no label in the table"))
    return _Found(items, skipped, scores=scores)


def _inside(entry: str, root: Path, where: str) -> Path:
    """A file of a table, its path written for any system, in the folder and nowhere else."""
    written = PureWindowsPath(entry)  # takes / and \ for a separator
    if not written.parts or written.anchor or ".." in written.parts:
        raise GuidanceError(f"{where}: '{entry}' must be a path inside the folder of the table, without '..'.")
    return root.joinpath(*written.parts)


def _score(value: str, where: str) -> float:
    try:
        score = float(value)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise GuidanceError(f"{where}: '{value}' is not a number. (Labels belong in a column named 'label'.)")
    return score


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise GuidanceError(f"'{file.name}' is not UTF-8 text ({error}): save it as UTF-8.") from error


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name, without hidden files and folders."""
    return sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda e: e.name)


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk in sorted order, without what is hidden; links to folders are not followed."""
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield place, inner, sorted(name for name in names if not name.startswith("."))


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _first(skipped: Sequence[Skipped], count: int = 3) -> str:
    """The first skipped files in brackets, for a sentence."""
    if not skipped:
        return ""
    listing = "; ".join(f"'{one.name}' {one.reason}" for one in skipped[:count])
    return f" (not used: {listing}{_more(skipped, count)})"


def _more(things: Sequence, shown: int) -> str:
    return f", and {len(things) - shown} more" if len(things) > shown else ""


def _why_not(path: Path, root: Path) -> str:
    if not path.is_file():
        return "does not exist"
    if not path.resolve().is_relative_to(root):
        return "is a link to a file outside of the folder"
    return fault(path)
