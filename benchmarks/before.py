"""An earlier state of the project beside this one, to hold figures against that differ from machine to machine."""

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devtools.host import ROOT

COMMIT = "fc5668e"
PINS = ROOT / "requirements-dev.txt"
NOT_MEASURED = (
    f"Without git and the commit {COMMIT} there is nothing to hold this against: the rows against it are missing."
)


@contextmanager
def earlier(commit: str = COMMIT) -> Iterator[Path | None]:
    """A folder with the project as it was; None where this is no clone that has the commit.

    It has the pins of today: under its own it would install its ComfyUI anew, in the place of the one that is measured.
    """
    try:
        found = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(fileobj=io.BytesIO(found.stdout)) as tar:
            tar.extractall(place, filter="data")
        Path(place, PINS.name).write_bytes(PINS.read_bytes())
        yield Path(place)


def printed(code: str, root: Path):
    """What a process of its own prints as JSON in its last line; it gets a folder for ComfyUI as its argument."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # users' has none
    with tempfile.TemporaryDirectory() as base:
        done = subprocess.run([sys.executable, "-c", code, base], cwd=root, env=kept, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
