"""Checkpoints of a training run: everything it needs to go on as if it had never stopped, in one safetensors file."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ..errors import GuidanceError
from ..files import MAX_HEADER, read_header, read_tensors, write_tensors
from ..frozen import frozen

FORMAT = "guidance-kit.training-checkpoint"
KIND = "training checkpoint"
VERSION = 1


class Damaged(Exception):
    """The parts of a checkpoint do not fit together."""


@frozen
class Saved:
    """A saved state: tensors by group and name, and plain values that JSON holds."""

    tensors: dict[str, dict[str, Tensor]]
    progress: dict[str, Any]


class State(Protocol):
    """What can be saved."""

    def save(self) -> Saved: ...


@dataclass
class Checkpoint:
    """The file in which a run is kept; None keeps it nowhere.

    run: plain values that identify the run. writes: whether this process does, of those that train together. notes:
    sentences that a person should read, until they are taken.
    """

    file: Path | None
    run: dict[str, Any]
    writes: bool
    notes: list[str] = field(default_factory=list)
    failed: bool = False

    def read(self) -> Saved | None:
        """What was saved of this run; None where nothing was, and where it is damaged, which sets the file aside.

        Raises GuidanceError when the file is no checkpoint, or one of another run.
        """
        if self.file is None or not os.path.exists(self.file):
            return None
        try:
            return read_checkpoint(self.file, self.run)
        except Damaged as error:
            self.set_aside(error)
            return None

    def set_aside(self, why: Damaged) -> None:
        """Give the damaged file another name, so that the run can be kept under this one."""
        file = cast(Path, self.file)  # kept nowhere, nothing is damaged
        aside = _free(file)
        done = f"was set aside as '{aside.name}'"
        if self.writes:
            try:
                os.replace(file, aside)
            except OSError as error:
                done = f"stays where it is ({error.strerror})"
        self.notes.append(f"The checkpoint '{file.name}' is damaged ({why}): it {done}, and training begins anew.")

    def write(self, state: State) -> None:
        """Save the state, whole or not at all. Raises GuidanceError where it cannot be written."""
        if self.file is not None and self.writes:
            write_checkpoint(self.file, state.save(), self.run)

    def keep(self, state: State) -> bool:
        """Whether the state could be saved; the first time that it could not is noted, and training goes on."""
        try:
            self.write(state)
        except GuidanceError as error:
            if not self.failed:
                self.notes.append(f"Training goes on, but cannot be resumed from here: {error}")
            self.failed = True
            return False
        return True

    def take_notes(self) -> tuple[str, ...]:
        """The notes since the last time."""
        taken = tuple(self.notes)
        self.notes.clear()
        return taken


def write_checkpoint(file: str | os.PathLike, saved: Saved, run: dict[str, Any]) -> None:
    """Write a saved state and what identifies its run, plain values that JSON holds; whole or not at all."""
    flat = {f"{group}/{name}": tensor for group, named in saved.tensors.items() for name, tensor in named.items()}
    progress, version = json.dumps(saved.progress), str(VERSION)
    metadata = {"format": FORMAT, "version": version, "progress": progress, "run": json.dumps(run)}
    write_tensors(file, flat, metadata)


def read_checkpoint(file: str | os.PathLike, run: dict[str, Any]) -> Saved:
    """What was written. Raises Damaged, and GuidanceError when the file is no checkpoint or one of another run."""
    name = Path(file).name
    try:
        with torch.inference_mode(False):  # training changes the tensors in place, which those made there refuse
            metadata, flat = read_tensors(file, KIND, None)
    except GuidanceError as error:
        if error.__cause__ is None or isinstance(error.__cause__, OSError) or _is_pickle(file):
            raise
        raise Damaged("it is not whole") from error
    read_header(file, KIND, FORMAT)
    if metadata.get("version") != str(VERSION):
        raise GuidanceError(
            f"'{name}' has format version {metadata.get('version')}, this Guidance Kit reads version {VERSION}: train "
            f"with another checkpoint file."
        )
    try:
        progress, there = dict(json.loads(metadata["progress"])), dict(json.loads(metadata["run"]))
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise Damaged("its description cannot be read") from error
    here = json.loads(json.dumps(run))
    differ = [key for key in {**here, **there} if here.get(key) != there.get(key)]
    if differ:
        what = "; ".join(_difference(key, there.get(key), here.get(key)) for key in differ)
        raise GuidanceError(
            f"The checkpoint '{name}' is of another training run: {what}. Make them the same to go on with it, or "
            f"delete it or choose another file to begin anew."
        )
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        group, _, inner = key.partition("/")
        tensors.setdefault(group, {})[inner] = tensor
    return Saved(tensors, progress)


def _is_pickle(file: str | os.PathLike) -> bool:
    """Whether the file is somebody's pickle, as of torch.save, rather than what is left of a checkpoint."""
    with open(file, "rb") as stream:
        start = stream.read(8)  # of a checkpoint: the length of its description
    return start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and int.from_bytes(start, "little") > MAX_HEADER)


def _free(file: Path) -> Path:
    """A name for a damaged file that no file has."""
    number, free = 2, file.with_name(f"{file.stem} (damaged){file.suffix}")
    while free.exists():
        free = file.with_name(f"{file.stem} (damaged {number}){file.suffix}")
        number += 1
    return free


def _difference(key: str, there: Any, here: Any) -> str:
    if key == "data":
        return "its latents, labels or groups are others"
    return f"{key} was {_short(there)} and is {_short(here)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
