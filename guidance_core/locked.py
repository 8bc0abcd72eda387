"""Files that one launch at a time works on: locks beside them that end with their process, however that ends."""

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .distributed import Process
from .errors import GuidanceError
from .writing import sentence

if sys.platform == "win32":
    import msvcrt

    def _take(stream: BinaryIO) -> None:
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(stream: BinaryIO) -> None:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which no child inherits, and other machines see


TAKEN = (errno.EACCES, errno.EAGAIN)


@contextmanager
def held(files: Iterable[Path], process: Process) -> Iterator[str]:
    """Work on files that no other launch works on; of several processes the first holds them.

    Yields a sentence where their disk knows no locks, so that nobody can tell, and else nothing. Raises GuidanceError,
    in every process, where another launch holds one of them, and where nothing can be written beside them.
    """
    with ExitStack() as locks:

        def take() -> tuple[str, str]:
            try:
                return " ".join(filter(None, [locks.enter_context(_lock(file)) for file in files])), ""
            except GuidanceError as error:
                return "", str(error)

        note, refused = process.agreed(take)
        if refused:
            raise GuidanceError(refused)
        yield note


@contextmanager
def _lock(file: Path) -> Iterator[str]:
    """Hold `.NAME.lock` beside a file, which is deleted in the end; a sentence where that is impossible."""
    lock, note, own = file.with_name(f".{file.name}.lock"), "", False
    with ExitStack() as opened:
        try:
            while not (own or note):  # once more where its owner has just deleted it
                stream = opened.enter_context(open(lock, "ab"))
                note = _refused(stream, file)
                own = _is_at(stream, lock)
        except OSError as error:
            raise GuidanceError(sentence(lock, error)) from error
        try:
            yield note
        finally:
            if sys.platform == "win32":
                opened.close()  # no open file is deleted there, and what others have opened stays for them
            with suppress(OSError):
                lock.unlink()


def _refused(stream: BinaryIO, file: Path) -> str:
    """Take a lock; a sentence where the disk has none. Raises GuidanceError where another launch has it."""
    try:
        _take(stream)
    except OSError as error:
        if error.errno not in TAKEN:
            return f"The disk of '{file}' knows no locks ({error.strerror}): see to it that no two launches share it."
        raise GuidanceError(
            f"Another launch is at work on '{file}': wait until it ends, or name another file."
        ) from error
    return ""


def _is_at(stream: BinaryIO, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(file))
    except FileNotFoundError:
        return False
