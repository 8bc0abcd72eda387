"""Writing labelled latents as a folder of shards, one shard in memory at a time."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..classifier.heads import Head, as_head
from ..classifier.names import as_labels
from ..errors import GuidanceError
from ..files import write_tensors
from ..progress import Progress, Work
from ..writing import write_whole
from .shards import DTYPES, FORMAT, INDEX, VERSION, digest


def write_shards(
    examples: Iterable[tuple[Tensor, int | Sequence[float]]],
    folder: str | os.PathLike,
    label_names: Sequence[str],
    *,
    head: str | Head = "single",
    latent_space: str = "",
    dtype: torch.dtype = torch.float16,
    shard_bytes: int = 64 * 2**20,
) -> Work[int]:
    """Write examples (latent [C, ...], its label as in Source.labels) to a new folder of shards, one shard in memory.

    Yields how many examples are on disk after every shard, and returns how many shards there are once the index is
    written, without which the folder is not yet a set of shards: a run that broke off is begun again.
    Latents are kept in dtype, in shards of about shard_bytes. Identical latents become one group.
    Raises GuidanceError for a folder that has an index, and for latents or labels that do not fit.
    """
    folder = Path(folder)
    head = as_head(head)
    if dtype not in DTYPES.values():
        raise GuidanceError(f"Shards hold {', '.join(map(str, DTYPES.values()))}, not {dtype}.")
    if (folder / INDEX).exists():
        raise GuidanceError(f"'{folder}' already holds latent shards: choose another folder, or delete them.")
    return _write(examples, folder, as_labels(label_names), head, latent_space, dtype, shard_bytes)


def _write(
    examples: Iterable[tuple[Tensor, int | Sequence[float]]],
    folder: Path,
    names: list[str],
    head: Head,
    latent_space: str,
    dtype: torch.dtype,
    shard_bytes: int,
) -> Work[int]:
    entries: list[dict] = []
    latents: list[Tensor] = []
    labels: list[Tensor] = []
    groups: list[int] = []
    first_with: dict[bytes, int] = {}
    shape: tuple[int, ...] = ()
    count = 0

    def flush() -> Progress:
        file = folder / f"shard-{len(entries):05d}.safetensors"
        entries.append(write_shard(file, torch.stack(latents), torch.stack(labels), torch.tensor(groups)))
        for filled in (latents, labels, groups):
            filled.clear()
        return Progress(count, None)

    for latent, label in examples:
        shape = shape or tuple(latent.shape)
        latents.append(_checked(latent, shape, count).to("cpu", dtype).clone())
        labels.append(_label(label, head, names, count))
        if not bool(latents[-1].isfinite().all()):
            raise GuidanceError(f"Latent {count} is not finite in {dtype}: choose another precision, or check it.")
        content = hashlib.blake2b(latents[-1].reshape(-1).view(torch.uint8).numpy().tobytes(), digest_size=16).digest()
        groups.append(first_with.setdefault(content, count))
        count += 1
        if len(latents) * latents[-1].nbytes >= shard_bytes:
            yield flush()
    if latents:
        yield flush()
    if not entries:
        raise GuidanceError("There are no examples to write.")
    write_index(folder, names, head, latent_space, list(shape), entries)
    return len(entries)


def write_shard(file: Path, latents: Tensor, labels: Tensor, groups: Tensor) -> dict[str, Any]:
    """Write one shard, whole or not at all; its entry in the index."""
    write_tensors(file, {"latents": latents, "labels": labels, "groups": groups}, {"format": FORMAT})
    return {"file": file.name, "count": len(latents), "hash": digest(file)}


def write_index(
    folder: Path,
    names: Sequence[str],
    head: Head,
    latent_space: str,
    shape: list[int],
    entries: list[dict],
    **more: Any,
) -> None:
    """Write the index of shards that are there; an entry whose shape is another says so itself."""
    index = {
        "format": FORMAT,
        "version": VERSION,
        "labels": list(names),
        "head": head.name,
        "latent_space": latent_space,
        "shape": shape,
        "count": sum(entry["count"] for entry in entries),
        **more,
        "shards": entries,
    }
    write_whole(folder / INDEX, _text(index).encode())


def _text(index: dict[str, Any]) -> str:
    """JSON with a line for each shard: short, and legible."""
    head = json.dumps(index | {"shards": []}, indent=1).removesuffix("[]\n}")
    return head + "[\n" + ",\n".join(map(json.dumps, index["shards"])) + "\n]}\n"


def _checked(latent: Tensor, shape: tuple[int, ...], number: int) -> Tensor:
    if latent.ndim not in (3, 4) or tuple(latent.shape) != shape:
        raise GuidanceError(
            f"All latents must be [C, H, W] or [C, T, H, W] of one shape: latent {number} is {list(latent.shape)}, the "
            f"first is {list(shape)}."
        )
    return latent.detach()


def _label(label: int | Sequence[float], head: Head, names: Sequence[str], number: int) -> Tensor:
    value, form = torch.as_tensor(label)[None], head.label_format
    if form.fault(value, names):
        raise GuidanceError(
            f"For each latent the head '{head}' needs {form.needs_of_one(len(names))}; latent {number} has {label!r}."
        )
    return form.kept(value)[0]
