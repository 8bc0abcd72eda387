"""Folders of shards of any number of examples and several sizes: nothing of an example is in memory before its turn.

Where `ShardSource` has all labels in memory and gives any example, a stream keeps the index alone, and gives the
examples of a batch in the order of data.order. Opening it reads the index and one shard.
"""

import hashlib
import math
import os
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..classifier.heads import Head, as_head
from ..classifier.names import composed
from ..errors import GuidanceError
from ..files import Header, read_header, read_tensors
from ..frozen import frozen
from .order import Order
from .shards import DTYPES, FORMAT, INDEX, check_shard, read_index
from .streaming import Stream

BUFFER = 2**16
"""Examples that are shuffled together."""
TOGETHER = 2**16  # bytes of a shard that are read in one go, with the rows between those that are wanted
HEADERS = 1024  # of shards, kept while they are used


@frozen
class StreamedShard:
    """A file of the folder; its examples are `first` to `first + count - 1`."""

    file: Path
    first: int
    count: int
    shape: tuple[int, ...]


@frozen(eq=False)
class ShardStream(Stream):
    """The examples of a folder of shards, which `open` makes. occurrences: of each label, [K], where that is known.

    buffer: examples that are shuffled together. workers: processes that read ahead; 0 reads when asked.
    """

    shards: tuple[StreamedShard, ...]
    label_names: tuple[str, ...]
    head: Head
    latent_space: str
    occurrences: Tensor | None
    index_hash: str
    buffer: int = BUFFER
    workers: int = 0
    _headers: OrderedDict[int, Header] = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def open(cls, folder: str | os.PathLike, buffer: int = BUFFER, workers: int = 0) -> "ShardStream":
        """Read the index. Where it does not say how often each label occurs, the labels of all shards are read.

        Raises GuidanceError for what is wrong with it, and for sizes whose channels differ.
        """
        folder = Path(folder)
        if buffer < 1 or workers < 0:
            raise GuidanceError(f"A stream's buffer must be at least 1 and its workers 0, got {buffer} and {workers}.")
        index = read_index(folder)
        shards, first = [], 0
        for entry in index["shards"]:
            shape = tuple(entry.get("shape", index["shape"]))
            shards.append(StreamedShard(folder / entry["file"], first, entry["count"], shape))
            first += entry["count"]
        if len({shard.shape[0] for shard in shards}) > 1 or len({len(shard.shape) for shard in shards}) > 1:
            raise GuidanceError(
                f"The latents in '{folder}' differ in more than their size: one classifier takes one kind."
            )
        names, head = tuple(map(composed, index["labels"])), as_head(index["head"])
        whole = hashlib.sha256((folder / INDEX).read_bytes()).hexdigest()
        counted = torch.tensor(index["occurrences"]) if index.get("occurrences") else None
        stream = cls(tuple(shards), names, head, index["latent_space"], counted, whole, buffer, workers)
        if counted is None:
            object.__setattr__(stream, "occurrences", stream._counted())
        return stream

    def __len__(self) -> int:
        return self.shards[-1].first + self.shards[-1].count

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first latent."""
        return self.shards[0].shape

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """The sizes there are, the most frequent first."""
        counts = Counter[tuple[int, ...]]()
        for shard in self.shards:
            counts[shard.shape] += shard.count
        return sorted(counts, key=lambda shape: (-counts[shape], shape))

    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.index_hash, self.buffer)).encode()).hexdigest()

    def order(self, batch: int, seed: int, hold_out: float = 0.0) -> Order:
        counts = [shard.count for shard in self.shards]
        sizes = [self.shapes.index(shard.shape) for shard in self.shards]
        kept = (lambda shard: ~held_out(self.groups_of(shard), hold_out, seed)) if hold_out else None
        return Order(counts, sizes, batch, self.buffer, seed, kept)

    def held_out(self, hold_out: float, seed: int, most: int) -> Tensor:
        found: list[Tensor] = []
        for shard in torch.randperm(len(self.shards), generator=torch.Generator().manual_seed(seed % 2**63)).tolist():
            if sum(map(len, found)) >= most:
                break
            mask = held_out(self.groups_of(shard), hold_out, seed)
            found.append(self.shards[shard].first + mask.nonzero()[:, 0])
        return torch.cat([torch.arange(0), *found])[:most]

    def sample_labels(self, most: int = BUFFER) -> Tensor:
        """The labels of some whole shards, about `most` of them, evenly over the folder."""
        step = max(1, len(self) // most)
        return torch.cat([self._small(shard)["labels"] for shard in range(0, len(self.shards), step)])

    def groups_of(self, shard: int) -> Tensor:
        """Of a shard's examples: those that share a number, here and in other shards, are copies."""
        small = self._small(shard)
        return small.get("groups", self.shards[shard].first + torch.arange(self.shards[shard].count))

    def size_of(self, indices: Tensor) -> Tensor:
        """The place in `shapes` of the sizes of examples, long [n]."""
        sizes = torch.tensor([self.shapes.index(shard.shape) for shard in self.shards])
        return sizes[self._shard_of(indices)]

    def load(self, indices: Tensor) -> Tensor:
        """x0 float32 [n, *shape] of examples of one size. Raises GuidanceError for a shard that is gone or cut."""
        return self._rows("latents", indices).float()

    def labels_of(self, indices: Tensor) -> Tensor:
        """As Source.labels, of some examples; raises what `load` does."""
        return self._rows("labels", indices)

    def _shard_of(self, indices: Tensor) -> Tensor:
        return torch.searchsorted(self._first, indices, right=True) - 1

    @cached_property
    def _first(self) -> Tensor:
        return torch.tensor([shard.first for shard in self.shards])

    def _rows(self, name: str, indices: Tensor) -> Tensor:
        """Rows of a tensor that lies in several shards, read in the order in which they lie on disk."""
        if not len(indices):
            return torch.empty(0)
        ordered, order = indices.sort()
        numbers, counts = self._shard_of(ordered).unique_consecutive(return_counts=True)
        parts: list[Tensor] = []
        for number, wanted in zip(numbers.tolist(), ordered.split(counts.tolist()), strict=True):
            parts.append(self._part(name, number, (wanted - self.shards[number].first).tolist()))
            if (parts[0].dtype, parts[0].shape[1:]) != (parts[-1].dtype, parts[-1].shape[1:]):
                file = self.shards[number].file.name
                raise GuidanceError(f"The shard '{file}' differs from others in precision or size.")
        rows = torch.cat(parts)
        return torch.empty_like(rows).index_copy_(0, order, rows)

    def _part(self, name: str, number: int, wanted: list[int]) -> Tensor:
        """Rows of a shard's tensor, by their ascending places in it."""
        declared = self._header(number).tensors[name]
        dtype = DTYPES.get(declared.dtype, torch.long) if name == "latents" else self.head.label_format.dtype
        width = dtype.itemsize * math.prod(declared.shape[1:])
        first, count = wanted[0], wanted[-1] - wanted[0] + 1
        together = count * width <= TOGETHER
        runs = [(first, count)] if together else [(row, 1) for row in wanted]
        content = _read_runs(self.shards[number].file, declared.offset, width, runs)
        rows = torch.frombuffer(content, dtype=dtype).view(-1, *declared.shape[1:])
        return rows[torch.tensor(wanted) - first] if together else rows

    def _header(self, number: int) -> Header:
        """What a shard declares, once it holds what the index says."""
        if number not in self._headers:
            shard = self.shards[number]
            header = read_header(shard.file, "latent shard", FORMAT)
            check_shard(shard.file.name, header.tensors, (shard.count, *shard.shape), self.head, len(self.label_names))
            self._headers[number] = header
            if len(self._headers) > HEADERS:
                self._headers.popitem(last=False)
        return self._headers[number]

    def _small(self, number: int) -> dict[str, Tensor]:
        """All of a shard but its latents."""
        self._header(number)
        file = self.shards[number].file
        found = read_tensors(file, "latent shard", FORMAT, only=("labels", "groups"))[1]
        return {name: tensor.clone() for name, tensor in found.items()}  # the file stays mapped while it is used

    def _counted(self) -> Tensor | None:
        counts: Tensor | None = None
        for labels in self._all_labels():
            if self.head.label_format.fault(labels, self.label_names):
                raise GuidanceError(f"The shards have labels that their index has no names for ({labels.max():g}).")
            seen = self.head.occurrences(labels, len(self.label_names))
            counts = seen if counts is None or seen is None else counts + seen
        return counts

    def _all_labels(self) -> Iterator[Tensor]:
        return (self._small(number)["labels"] for number in range(len(self.shards)))


def _read_runs(file: Path, offset: int, width: int, runs: list[tuple[int, int]]) -> bytearray:
    """Runs of rows (first, count), each of `width` bytes, one after the other."""
    content = bytearray(width * sum(count for _, count in runs))
    view, done = memoryview(content), 0
    try:
        with open(file, "rb", buffering=0) as stream:
            for row, count in runs:
                stream.seek(offset + row * width)
                if stream.readinto(view[done : done + count * width]) != count * width:
                    raise OSError("it ends too early")
                done += count * width
    except OSError as error:
        raise GuidanceError(f"The shard '{file.name}' can no longer be read ({error}).") from error
    return content


def held_out(groups: Tensor, fraction: float, seed: int) -> Tensor:
    """Which examples are held out, bool [n]: by their group and the seed alone, wherever they are.

    A hash of the group below `fraction` of its range (SplitMix64's finalizer).
    """
    x = groups.numpy().astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 1) % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    x ^= x >> np.uint64(31)
    return torch.from_numpy((x >> np.uint64(11)).astype(np.float64) / 2**53 < fraction)
