"""Cancelled trainings: the state to go on from, and the classifier so far, in a file that no other training touches."""

import hashlib
import itertools
import json
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import folder_paths

from ...guidance_core.classifier.noisy import NoisyClassifier
from ...guidance_core.errors import GuidanceError
from ...guidance_core.frozen import frozen
from ...guidance_core.writing import write_whole
from .classifier_files import file_named, new_file

KEPT_STATES = 4  # the newest
NOTE = ".kept.json"


@frozen
class UnfinishedTraining:
    """What is kept of one training under a name. state: its checkpoint; beside it lies a note of the file it wrote."""

    name: str
    state: Path

    @classmethod
    def of(cls, name: str, about: Any) -> "UnfinishedTraining":
        """That of exactly this training: `about`, plain values, names data and settings, and others have other files.

        The states of older trainings are deleted. Raises GuidanceError for a name that no classifier can have.
        """
        name = name.strip()
        file_named(f"{name} (unfinished)")
        folder = Path(folder_paths.get_user_directory()) / "guidance_kit" / "trainings"
        with suppress(OSError):  # of a disk that is read-only or gone nothing can be deleted, and training can begin
            for old in sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)[:-KEPT_STATES]:
                old.unlink(missing_ok=True)
                old.with_suffix(NOTE).unlink(missing_ok=True)
        key = hashlib.sha256(json.dumps([name, *about], sort_keys=True).encode()).hexdigest()[:32]
        return cls(name, folder / f"{key}.safetensors")

    def keep(self, classifier: NoisyClassifier) -> Path:
        """Save the classifier so far, over the file that this training wrote before or under a name that is free."""
        written = self._written()
        with nullcontext(written) if written else new_file(self._names()) as file:
            classifier.save(file)
        note = {"file": str(file), "digest": _digest(file)}
        with suppress(GuidanceError):  # without the note the file counts as the user's own, and is never touched again
            write_whole(self._note, json.dumps(note).encode())
        return file

    def discard(self) -> None:
        """Delete the state, and the file if it is still as this training wrote it."""
        for file in (self._written(), self._note, self.state):
            if file is not None:
                with suppress(OSError):  # what cannot be deleted stays, and the training is finished all the same
                    file.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self.state.with_suffix(NOTE)

    def _written(self) -> Path | None:
        """The file that this training wrote before; None where there is none, or another in its place."""
        try:
            note = json.loads(self._note.read_bytes())
            file = Path(note["file"])
            return file if _digest(file) == note["digest"] else None
        except (OSError, LookupError, TypeError, ValueError):
            return None

    def _names(self) -> Iterator[Path]:
        yield file_named(f"{self.name} (unfinished)")
        for number in itertools.count(2):
            yield file_named(f"{self.name} (unfinished {number})")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
