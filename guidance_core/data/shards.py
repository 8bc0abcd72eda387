"""Folders of labelled latents too large for memory: safetensors shards and an index, read row by row when needed.

index.json               names of the labels, head, latent space, shape, and the shards; written last. `encode` adds how
                         often each label occurs, the latents' scale and shift, x0 = (raw - shift) * scale, and the
                         shape of a shard where it is another
shard-00000.safetensors  latents [n, C, ...] in half or single precision; labels, long [n] or float [n, K];
                         groups, long [n], the same number for copies of one latent (may be missing)
"""

import hashlib
import json
import os
import re
from pathlib import Path

import torch
from torch import Tensor

from ..classifier.heads import Head, as_head, heads
from ..classifier.names import composed, label_fault
from ..errors import GuidanceError
from ..files import Declared, read_header, read_tensors
from ..frozen import frozen

FORMAT = "guidance-kit.latent-shards"
VERSION = 1
INDEX = "index.json"
MAX_INDEX = 64 * 2**20
BLOCK = 2**20
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
LABEL_DTYPES = {torch.long: "I64", torch.float32: "F32"}


@frozen
class Shard:
    """A file of a folder: its examples are `first` to `first + count - 1`, their latents begin at byte `offset`."""

    file: Path
    first: int
    count: int
    offset: int
    hash: str


@frozen(eq=False)
class ShardSource:
    """The examples of a folder of shards (a Source), which `open` makes: labels and groups in memory, latents on disk.

    Latents are read into a buffer of a batch's size, not through a memory map, whose pages would count as the
    process's own memory.
    """

    shards: tuple[Shard, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    labels: Tensor
    groups: Tensor
    label_names: tuple[str, ...]
    head: Head = as_head("single")
    latent_space: str = ""

    @classmethod
    def open(cls, folder: str | os.PathLike) -> "ShardSource":
        """Read the index, and the head of every shard. Raises GuidanceError with what is wrong with them."""
        folder = Path(folder)
        index = read_index(folder)
        if sizes := {tuple(entry["shape"]) for entry in index["shards"] if "shape" in entry}:
            raise GuidanceError(
                f"The latents in '{folder}' have several sizes ({', '.join(map(str, sorted(sizes)))} and more): only "
                f"training reads them, in a stream."
            )
        shape, names, head = tuple(index["shape"]), tuple(map(composed, index["labels"])), as_head(index["head"])
        shards, parts, groups, dtypes = [], [], [], set()
        first = 0
        for entry in index["shards"]:
            file = folder / entry["file"]
            header = read_header(file, "latent shard", FORMAT)
            dtypes.add(check_shard(file.name, header.tensors, (entry["count"], *shape), head, len(names)))
            small = read_tensors(file, "latent shard", FORMAT, only=("labels", "groups"))[1]
            parts.append(small["labels"].clone())  # a copy, since the file stays mapped into memory while it is used
            groups.append(small["groups"].clone() if "groups" in small else first + torch.arange(entry["count"]))
            offset = header.tensors["latents"].offset
            shards.append(Shard(file, first, entry["count"], offset, entry.get("hash") or digest(file)))
            first += entry["count"]
        if len(dtypes) > 1:
            raise GuidanceError(f"The shards in '{folder}' differ in precision ({', '.join(sorted(dtypes))}).")
        labels = torch.cat(parts)
        if head.label_format.fault(labels, names):
            raise GuidanceError(
                f"The shards in '{folder}' have labels from {labels.min():g} to {labels.max():g}, and the index "
                f"has names for 0 to {len(names) - 1}."
            )
        return cls(
            tuple(shards),
            shape,
            DTYPES[dtypes.pop()],
            labels,
            torch.cat(groups),
            names,
            head,
            index["latent_space"],
        )

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, indices: Tensor) -> Tensor:
        """Rows are read in the order they lie in on disk. Raises GuidanceError for a shard that is gone or cut."""
        latents = torch.empty((len(indices), *self.shape), dtype=self.dtype)
        rows = latents.view(torch.uint8).reshape(len(indices), -1).numpy()
        order = indices.argsort()
        which = torch.searchsorted(torch.tensor([shard.first for shard in self.shards]), indices[order], right=True) - 1
        for number in which.unique_consecutive().tolist():
            shard = self.shards[number]
            try:
                with open(shard.file, "rb", buffering=0) as stream:
                    for place in order[which == number].tolist():
                        stream.seek(shard.offset + (int(indices[place]) - shard.first) * rows.shape[1])
                        if stream.readinto(rows[place]) != rows.shape[1]:
                            raise OSError("it ends too early")
            except OSError as error:
                raise GuidanceError(f"The shard '{shard.file.name}' can no longer be read ({error}).") from error
        return latents.float()

    def fingerprint(self) -> str:
        what = (self.label_names, self.head.name, self.shape, [shard.hash for shard in self.shards])
        return hashlib.sha256(repr(what).encode()).hexdigest()


def read_index(folder: Path) -> dict:
    """The index of a folder, with everything that is read from it checked."""
    file = folder / INDEX
    if not file.is_file():
        raise GuidanceError(f"There are no latent shards in '{folder}' (no {INDEX}).")
    try:
        if file.stat().st_size > MAX_INDEX:
            raise ValueError(f"it is larger than {MAX_INDEX // 2**20} MiB")
        index = json.loads(file.read_text(encoding="utf-8"))
        _check_index(index)
    except (OSError, ValueError, RecursionError) as error:
        raise GuidanceError(f"The index of the latent shards in '{folder}' is damaged: {error}.") from error
    return index


def _check_index(index: object) -> None:
    """Raise ValueError with what is wrong."""
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"it does not say 'format': '{FORMAT}'")
    if index.get("version") != VERSION:
        raise ValueError(f"its version is {index.get('version')!r}, this Guidance Kit reads version {VERSION}")
    names, shape, shards = index.get("labels"), index.get("shape"), index.get("shards")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("'labels' must be a list of names")
    if fault := label_fault(list(map(composed, names))):
        raise ValueError(f"'labels' {fault}")
    if index.get("head") not in list(heads()) or not isinstance(index.get("latent_space"), str):
        raise ValueError(f"'head' must be one of {', '.join(heads())}, and 'latent_space' text")
    if not _is_shape(shape):
        raise ValueError("'shape' must be [C, H, W] or [C, T, H, W]")
    counts = index.get("occurrences", [])
    if not isinstance(counts, list) or len(counts) not in (0, len(names)) or not all(type(n) is int for n in counts):
        raise ValueError("'occurrences' must be a whole number for each label")
    if not isinstance(shards, list) or not shards or not all(isinstance(entry, dict) for entry in shards):
        raise ValueError("'shards' must be a list of entries")
    for entry in shards:
        file = entry.get("file")
        if not isinstance(file, str) or not re.fullmatch(r"\w[\w.-]*\.safetensors", file):
            raise ValueError(f"{file!r} is not the plain name of a safetensors file")
        if type(entry.get("count")) is not int or entry["count"] < 1 or not isinstance(entry.get("hash", ""), str):
            raise ValueError(f"'count' of '{file}' must be a whole number from 1 on, and 'hash' text")
        if not _is_shape(entry.get("shape", shape)):
            raise ValueError(f"'shape' of '{file}' must be [C, H, W] or [C, T, H, W]")


def _is_shape(shape: object) -> bool:
    return isinstance(shape, list) and len(shape) in (3, 4) and all(type(n) is int and n > 0 for n in shape)


def check_shard(name: str, tensors: dict[str, Declared], shape: tuple[int, ...], head: Head, classes: int) -> str:
    """The dtype of its latents, once the shard holds what the index says."""
    count = shape[0]
    form = head.label_format
    allowed: dict[str, set[tuple[str, tuple[int, ...]] | None]] = {
        "latents": {(dtype, shape) for dtype in DTYPES},
        "labels": {(LABEL_DTYPES[form.dtype], form.shape(count, classes))},
        "groups": {("I64", (count,)), None},
    }
    for tensor, expected in allowed.items():
        declared = tensors.get(tensor)
        found = (declared.dtype, declared.shape) if declared else None
        if found not in expected:
            wanted = " or ".join(f"{dtype} {list(size)}" for dtype, size in sorted(filter(None, expected)))
            has = f"{found[0]} {list(found[1])}" if found else "none"
            raise GuidanceError(f"The shard '{name}' should have '{tensor}' {wanted}, and has {has}.")
    return tensors["latents"].dtype


def digest(file: Path) -> str:
    """A hash of a file's bytes, read a block at a time."""
    whole = hashlib.sha256(repr(()).encode())
    with open(file, "rb") as stream:
        while block := stream.read(BLOCK):
            whole.update(block)
    return whole.hexdigest()
