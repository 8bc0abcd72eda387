"""Safetensors files, read without executing anything or trusting what they declare, and written one tensor a time."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import GuidanceError
from .frozen import frozen
from .writing import written_whole

MAX_HEADER = 4 * 2**20
"""Bytes of description that a file may have; what is longer is refused unread."""
MAX_TENSORS = 8192


DTYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What a file can hold, by safetensors' names; wide ones come first, so that each lies at a multiple of its size."""


@frozen
class Declared:
    """What a file says of a tensor: its dtype (safetensors' name), its shape, and the byte at which it begins."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


@frozen
class Header:
    """What a file declares: its metadata and its tensors; size in bytes."""

    metadata: dict[str, str]
    tensors: dict[str, Declared]
    size: int


def write_tensors(file: str | os.PathLike, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all, with one tensor at a time in memory.

    Raises GuidanceError for more metadata than `read_header` accepts, for a dtype that is not in DTYPES, and what
    `written_whole` does.
    """
    length = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    if length > MAX_HEADER // 2:  # the rest is for escaped characters and the list of tensors
        raise GuidanceError(
            f"'{Path(file).name}' would hold {length / 2**20:.1f} MiB of metadata, and {MAX_HEADER / 2**21:g} MiB fit."
        )
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise GuidanceError(f"'{Path(file).name}' cannot hold '{name[:80]}': it is {tensor.dtype}.")
    order = list(DTYPES)
    names = sorted(tensors, key=lambda name: (order.index(tensors[name].dtype), name))
    declared: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in names:
        begin, end = end, end + tensors[name].nbytes
        dtype, shape = DTYPES[tensors[name].dtype], list(tensors[name].shape)
        declared[name] = dict(zip(_ENTRY, (dtype, shape, [begin, end]), strict=True))
    header = json.dumps(declared, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with written_whole(file) as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for name in names:
            stream.write(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def read_header(file: str | os.PathLike, kind: str, form: str | None) -> Header:
    """What a file whose metadata says `format: form` (None: whatever it says) declares, without reading a tensor.

    Raises GuidanceError when the file is missing, is not whole safetensors, declares more than is reasonable, or is of
    another format than a `kind`.
    """
    file = Path(file)
    if os.path.isdir(file):
        raise GuidanceError(f"'{file}' is a folder: name the {kind} file in it.")
    if not os.path.isfile(file):
        raise GuidanceError(f"There is no {kind} file '{file.name}' in {file.parent}.")
    try:
        with open(file, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= size - 8:
                raise ValueError(f"it declares {length} bytes of description and has {size} in all")
            if length > MAX_HEADER:
                raise ValueError(f"it declares {length} bytes of description, at most {MAX_HEADER} are read")
            declared = json.loads(stream.read(length).decode())
        header = _header(declared, size, 8 + length)
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(file, error) from error
    if form is not None and header.metadata.get("format") != form:
        raise GuidanceError(f"'{file.name}' is a safetensors file but not a {kind} (no '{form}' metadata).")
    return header


def read_tensors(
    file: str | os.PathLike, kind: str, form: str | None, only: Collection[str] | None = None
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """(metadata, tensors) of a file, `only` those of these names; raises what `read_header` does."""
    header = read_header(file, kind, form)
    names = [name for name in header.tensors if only is None or name in only]
    try:
        with safe_open(file, framework="pt") as handle:
            tensors = {name: handle.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise _broken(Path(file), error) from error
    return header.metadata, tensors


def _header(declared: Any, size: int, start: int) -> Header:
    """A parsed description, checked against the bytes of data there are from `start` on. Raises ValueError."""
    if not isinstance(declared, dict):
        raise ValueError("its description is no table")
    metadata = declared.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is not text")
    if len(declared) > MAX_TENSORS:
        raise ValueError(f"it declares {len(declared)} tensors, at most {MAX_TENSORS} are read")
    tensors, end = {}, 0
    for name, entry in declared.items():
        described: Any = entry if isinstance(entry, dict) else {}
        dtype, shape, span = (described.get(key) for key in _ENTRY)
        if not isinstance(dtype, str) or not _counts(shape) or not _counts(span) or len(span) != 2:
            raise ValueError(f"its tensor {name[:80]!r} is not described by dtype, shape and place")
        end = max(end, span[1])
        tensors[name] = Declared(dtype, tuple(shape), start + span[0])
    if end != size - start:
        raise ValueError(f"it declares {end} bytes of tensors and has {size - start}")
    return Header(metadata, tensors, size)


_ENTRY = ("dtype", "shape", "data_offsets")


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)


def _broken(file: Path, error: Exception) -> GuidanceError:
    said = "its description is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
    return GuidanceError(
        f"'{file.name}' is not a whole safetensors file ({said}). Pickled .pt and .ckpt files are not loaded, because "
        f"they can run code."
    )
