"""What a folder holds before any picture of it is opened, and which of its files may be opened at all."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ...classifier.names import composed
from ...errors import GuidanceError, printable, shortened
from ...frozen import frozen
from ..image_file import EXTENSIONS

MAX_TEXT = 2**26  # bytes of a table or a caption
ABSENT = {errno.ENOENT, errno.ENOTDIR}


@frozen
class Picture:
    """A picture file and what was said of it: its labels, or its scores."""

    path: Path
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(map(composed, self.labels)))  # macOS takes folders' names apart


@frozen
class Skipped:
    """A file that is not used, by its name in the folder, and why."""

    name: str
    reason: str


@frozen
class Found:
    """Pictures and what is not used; classes must have pictures; scores are names of columns."""

    items: list[Picture]
    skipped: list[Skipped]
    classes: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()


def name_in(path: Path, root: Path) -> str:
    """A file's name in a folder, for people."""
    return shortened(printable(path.relative_to(root).as_posix()), 200)


def why_not(path: Path, root: Path) -> str:
    """Why a file below `root` must not be opened (it leads elsewhere, or would never end); "" when it may be.

    root: without links in it.
    """
    try:
        if not Path(os.path.realpath(path)).is_relative_to(root):
            return "is a link to a file outside of the folder"
        os.stat(path)
    except OSError as error:
        return "does not exist" if error.errno in ABSENT else f"cannot be read ({error.strerror})"
    except ValueError:
        return "has a name that no file can have"
    return "" if os.path.isfile(path) else "is no plain file"


def text_of(file: Path, root: Path) -> str:
    """A text file below `root`. Raises GuidanceError for what must not be opened, is too long, or is not UTF-8."""
    reason, name = why_not(file, root), printable(file.name)
    if reason:
        raise GuidanceError(f"'{name}' {reason}.")
    try:
        with open(file, "rb") as stream:
            content = stream.read(MAX_TEXT + 1)
        if len(content) > MAX_TEXT:
            raise GuidanceError(f"'{name}' is too long: at most {MAX_TEXT // 2**20} MiB of text are read.")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GuidanceError(f"'{name}' is not UTF-8 text ({error.reason}): save it as UTF-8.") from error
    except OSError as error:
        raise GuidanceError(f"'{name}' cannot be read ({error.strerror}).") from error


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name, without hidden files and folders."""
    return sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda e: e.name)


def images_in(folder: Path) -> list[Path]:
    """The files in a folder that have an image's ending."""
    return [entry for entry in visible(folder) if entry.suffix.lower() in EXTENSIONS]


def images_below(folder: Path) -> Iterator[Path]:
    """Those of a folder and its sub-folders, folder by folder, without what is hidden; links to folders are not
    followed."""
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for file in (Path(place, name) for name in sorted(names) if not name.startswith(".")):
            if file.suffix.lower() in EXTENSIONS:
                yield file
