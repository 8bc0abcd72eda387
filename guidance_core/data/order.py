"""The order in which shards are gone through: by numbers alone, so that every process knows it and none keeps a place.

An epoch takes the shards in an order of its own. So many of them as hold `buffer` examples are shuffled together, which
is what a shuffle buffer does, but nothing is kept in memory: examples are read when their batch is due. A batch has one
size of latents; what does not fill a batch waits for the next examples of its size, in the next epoch if need be.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import torch
from torch import Tensor

from ..frozen import frozen


@frozen(eq=False)
class Order:
    """Endless batches of example numbers. counts, sizes: of each shard its examples, and a number of their size.

    kept: a mask over a shard's examples, of those that are to come; None where all are.
    """

    counts: Sequence[int]
    sizes: Sequence[int]
    batch: int
    buffer: int
    seed: int
    kept: Callable[[int], Tensor] | None = None

    def batches(self) -> Iterator[Tensor]:
        """long [batch] each; none at all where no example is kept."""
        first = torch.tensor([0, *self.counts]).cumsum(0)
        waiting: dict[int, Tensor] = {}
        for epoch in count():
            seen = 0
            for number, shards in enumerate(self._windows(epoch)):
                generator = self._generator(epoch, number)
                examples: dict[int, list[Tensor]] = {}
                for shard in shards:
                    rows = first[shard] + torch.arange(self.counts[shard])
                    rows = rows if self.kept is None else rows[self.kept(shard)]
                    examples.setdefault(self.sizes[shard], []).append(rows)
                full: list[Tensor] = []
                for size in sorted(examples):
                    rows = torch.cat(examples[size])
                    seen += len(rows)
                    rows = rows[torch.randperm(len(rows), generator=generator)]
                    rows = torch.cat([waiting.get(size, rows[:0]), rows])
                    whole = len(rows) // self.batch * self.batch
                    full += rows[:whole].split(self.batch) if whole else []
                    waiting[size] = rows[whole:].clone()
                yield from (full[i] for i in torch.randperm(len(full), generator=generator).tolist())
            if not seen:
                return

    def _windows(self, epoch: int) -> Iterator[list[int]]:
        """The shards of an epoch, as many at a time as hold `buffer` examples."""
        window: list[int] = []
        examples = 0
        for shard in torch.randperm(len(self.counts), generator=self._generator(epoch)).tolist():
            window.append(shard)
            examples += self.counts[shard]
            if examples >= self.buffer:
                yield window
                window, examples = [], 0
        if window:
            yield window

    def _generator(self, *place: int) -> torch.Generator:
        """Of an epoch, or of a window in it."""
        digest = hashlib.blake2b(repr((self.seed, *place)).encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
