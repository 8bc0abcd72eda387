"""A small disk in memory, for tests of what happens when a disk is full or read-only."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class NoDisk(Exception):
    """This system lets nobody mount a disk here."""


@dataclass(frozen=True)
class SmallDisk:
    """A mounted disk; `sudo` where mounting takes it."""

    path: Path
    sudo: tuple[str, ...]

    def read_only(self) -> None:
        """Let nothing more be written."""
        _run(*self.sudo, "mount", "-o", "remount,ro", str(self.path))

    def fill(self) -> None:
        """Leave no room."""
        filler = self.path / "filler"
        with open(filler, "ab", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(4096))
            except OSError:
                return

    def empty(self) -> None:
        """Give back the room that `fill` took."""
        (self.path / "filler").unlink()


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """A disk of `size` bytes mounted on a new folder. Raises NoDisk where that is impossible."""
    folder.mkdir(parents=True)
    sudo = () if hasattr(os, "geteuid") and os.geteuid() == 0 else ("sudo", "-n")
    _run(*sudo, "mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", str(folder))
    try:
        yield SmallDisk(folder, sudo)
    finally:
        _run(*sudo, "umount", "--lazy", str(folder))


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoDisk(f"{' '.join(command)}: {error}") from error
