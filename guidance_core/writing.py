"""A file that is written whole or not at all, and what keeps it from being written as a sentence."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import GuidanceError, printable, shortened

PART = re.compile(r"\.guidance-kit-[0-9a-f]{16}\.part")
"""The names of unfinished files. They are drawn: two containers may have one process id."""
STALE = 24 * 3600.0  # seconds after which an unfinished file that nobody has written to is one of a killed process

ELSEWHERE = "write to another place"
WHY: dict[int | None, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", f"free some space, or {ELSEWHERE}"),
    errno.EDQUOT: ("your share of the disk is used up", f"free some space, or {ELSEWHERE}"),
    errno.EROFS: ("the disk is read-only", ELSEWHERE),
    errno.EACCES: ("writing there is not allowed", f"change its permissions, or {ELSEWHERE}"),
    errno.EPERM: ("writing there is not allowed", f"change its permissions, or {ELSEWHERE}"),
    errno.ENAMETOOLONG: ("its name is too long", "choose a shorter one"),
    errno.ENOTDIR: ("a file lies where its folder should be", ELSEWHERE),
    errno.EEXIST: ("a file lies where its folder should be", ELSEWHERE),
}


@contextmanager
def written_whole(file: str | os.PathLike) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file once all of them are on disk; a failure leaves an older file as it was.

    They go to an unfinished file beside it, which is then renamed; nothing of it is left after a failure, but for a
    process that is killed: what that leaves is deleted by the first write beside it a day later. The folder is made.
    Raises GuidanceError, with the path and what to do, where the system does not let the file be written.
    """
    file = Path(file)
    part = file.with_name(f".guidance-kit-{secrets.token_hex(8)}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "xb") as stream:
                _delete_stale(part)
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(part, file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise GuidanceError(sentence(file, error)) from error


def create(file: str | os.PathLike) -> bool:
    """Make an empty file and its folder, and say whether there was nothing of this name; of several processes that try
    at once, one is told so. Raises what `written_whole` does."""
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        try:
            open(file, "xb").close()
        except FileExistsError:
            return False
        return True
    except OSError as error:
        raise GuidanceError(sentence(Path(file), error)) from error


def write_whole(file: str | os.PathLike, content: bytes) -> None:
    """Write a file as `written_whole` does."""
    with written_whole(file) as stream:
        stream.write(content)


def _delete_stale(part: Path) -> None:
    """Delete what killed processes left beside an unfinished file, by the clock of the disk they lie on."""
    now = part.stat().st_mtime
    for other in part.parent.iterdir():
        if PART.fullmatch(other.name):
            with suppress(OSError):  # it may be gone by now, or somebody else's: neither hinders this write
                if now - other.stat().st_mtime > STALE:
                    other.unlink()


def sentence(file: Path, error: OSError) -> str:
    why, what_to_do = WHY.get(error.errno or 0, (error.strerror or str(error), ELSEWHERE))
    if os.path.isdir(file):
        why, what_to_do = "a folder has this name", "choose another name"
    name = shortened(printable(str(file)), 500)
    return f"'{name}' could not be written: {why}. {what_to_do.capitalize()}."
