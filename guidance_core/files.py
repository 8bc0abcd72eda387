"""Safetensors files, read without executing anything and written whole or not at all."""

import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import GuidanceError


def write_tensors(file: str | os.PathLike, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write to a temporary file beside it, then rename: a failure leaves an older file as it was."""
    file = Path(file)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, temporary, metadata=metadata)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(file: str | os.PathLike, kind: str, form: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """(metadata, tensors) of a file whose metadata says `format: form`.

    Raises GuidanceError when the file is missing, is not whole safetensors, or is of another format than a `kind`.
    """
    file = Path(file)
    if not file.is_file():
        raise GuidanceError(f"There is no {kind} file '{file.name}' in {file.parent}.")
    try:
        with safe_open(file, framework="pt") as handle:
            metadata = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise GuidanceError(
            f"'{file.name}' is not a whole safetensors file ({error}). Pickled .pt and .ckpt files are not loaded, "
            f"because they can run code."
        ) from error
    if metadata.get("format") != form:
        raise GuidanceError(f"'{file.name}' is a safetensors file but not a {kind} (no '{form}' metadata).")
    return metadata, tensors
