"""Checkpoints of a training run: everything it needs to go on as if it had never stopped, in one safetensors file."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import GuidanceError
from ..files import read_tensors, write_tensors

FORMAT = "guidance-kit.training-checkpoint"
VERSION = 1


def write_checkpoint(
    file: str | os.PathLike, tensors: dict[str, dict[str, Tensor]], progress: dict[str, Any], run: dict[str, Any]
) -> None:
    """Write tensors (by group and name), progress and what identifies the run; whole or not at all.

    progress and run are plain values that JSON holds.
    """
    flat = {f"{group}/{name}": tensor for group, named in tensors.items() for name, tensor in named.items()}
    metadata = {"format": FORMAT, "version": str(VERSION), "progress": json.dumps(progress), "run": json.dumps(run)}
    write_tensors(file, flat, metadata)


def read_checkpoint(
    file: str | os.PathLike, run: dict[str, Any]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """(tensors, progress) as written. Raises GuidanceError when the file is no checkpoint, or one of another run."""
    name = Path(file).name
    with torch.inference_mode(False):  # training changes the tensors in place, which those made there refuse
        metadata, flat = read_tensors(file, "training checkpoint", FORMAT)
    if metadata.get("version") != str(VERSION):
        raise GuidanceError(
            f"'{name}' has format version {metadata.get('version')}, this Guidance Kit reads version {VERSION}: train "
            f"with another checkpoint file."
        )
    try:
        progress, there = dict(json.loads(metadata["progress"])), dict(json.loads(metadata["run"]))
    except (LookupError, TypeError, ValueError) as error:
        raise damaged(error) from error
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
    return tensors, progress


def damaged(error: Exception) -> GuidanceError:
    """The sentence for a checkpoint whose parts do not fit together."""
    return GuidanceError(f"The training checkpoint is damaged ({error}): delete it to begin anew.")


def _difference(key: str, there: Any, here: Any) -> str:
    if key == "data":
        return "its latents, labels or groups are others"
    return f"{key} was {_short(there)} and is {_short(here)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
