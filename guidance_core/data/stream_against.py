"""Two streams side by side: in every batch examples of a few labels, and others that all get one more."""

import hashlib
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from ..classifier.heads import Head
from ..errors import GuidanceError
from ..frozen import frozen
from .order import Order
from .sources import Source
from .stream import ShardStream, held_out
from .streaming import Batches, Stream


class Others(Protocol):
    """What is asked of the others (see Stream)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def fingerprint(self) -> str: ...

    def order(self, batch: int, seed: int, hold_out: float = 0.0) -> Batches: ...

    def held_out(self, hold_out: float, seed: int, most: int) -> Tensor: ...

    def load(self, indices: Tensor) -> Tensor: ...


@frozen(eq=False)
class InMemory:
    """A source as a stream of others; its labels are not asked for."""

    source: Source

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def __len__(self) -> int:
        return len(self.source)

    def fingerprint(self) -> str:
        return self.source.fingerprint()

    def order(self, batch: int, seed: int, hold_out: float = 0.0) -> Order:
        kept = ~held_out(self.source.groups, hold_out, seed)
        return Order([len(self)], [0], batch, len(self), seed, lambda _: kept)

    def held_out(self, hold_out: float, seed: int, most: int) -> Tensor:
        return held_out(self.source.groups, hold_out, seed).nonzero()[:most, 0]

    def load(self, indices: Tensor) -> Tensor:
        return self.source.load(indices).cpu()


@frozen(eq=False)
class StreamAgainst(Stream):
    """The examples of a stream, and others under the last of the labels; numbered one after the other.

    Each batch has the others' fair share: one part in K + 1 where the examples have K labels, however many there are of
    either. `open` makes it.
    """

    examples: ShardStream
    others: Others
    label_names: tuple[str, ...]
    head: Head
    latent_space: str
    occurrences: Tensor
    workers: int

    @classmethod
    def open(cls, examples: ShardStream, others: Others, other: str) -> "StreamAgainst":
        """Raises GuidanceError where sizes differ, or an example has no one label."""
        if not examples.head.has_prior or examples.occurrences is None:
            raise GuidanceError("Negatives are set against pictures of one label each, not against tags or scores.")
        theirs = others.shapes if isinstance(others, ShardStream) else [others.shape]
        if examples.shapes != theirs or len(theirs) > 1:
            raise GuidanceError(
                f"Examples and negatives must have one shape: the examples have {_listed(examples.shapes)}, the "
                f"negatives {_listed(theirs)}."
            )
        names, counts = (*examples.label_names, other), torch.cat([examples.occurrences, torch.tensor([len(others)])])
        return cls(examples, others, names, examples.head, examples.latent_space, counts, examples.workers)

    def __len__(self) -> int:
        return len(self.examples) + len(self.others)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.examples.shape

    @property
    def share(self) -> float:
        """Of the others in a batch, about."""
        return 1 / len(self.label_names)

    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.examples.fingerprint(), self.others.fingerprint())).encode()).hexdigest()

    def order(self, batch: int, seed: int, hold_out: float = 0.0) -> Batches:
        if batch < 2:
            raise GuidanceError(f"A batch with negatives must have 2 pictures at least, got {batch}.")
        others = self._of(batch)
        ours = self.examples.order(batch - others, seed, hold_out)
        return _SideBySide(ours, self.others.order(others, seed, hold_out), len(self.examples), seed)

    def held_out(self, hold_out: float, seed: int, most: int) -> Tensor:
        """In the proportion of a batch, so that no class counts more."""
        others = self.others.held_out(hold_out, seed, self._of(most))
        ours = self.examples.held_out(hold_out, seed, round(len(others) * (1 - self.share) / self.share))
        return torch.cat([ours, len(self.examples) + others])

    def sample_labels(self) -> Tensor:
        labels = self.examples.sample_labels()
        return torch.cat([labels, labels.new_full((min(len(self.others), len(labels)),), len(self.label_names) - 1)])

    def size_of(self, indices: Tensor) -> Tensor:
        return torch.zeros_like(indices)

    def load(self, indices: Tensor) -> Tensor:
        ours = indices < len(self.examples)
        x0 = torch.empty((len(indices), *self.shape))
        if bool(ours.any()):
            x0[ours] = self.examples.load(indices[ours])
        if not bool(ours.all()):
            x0[~ours] = self.others.load(indices[~ours] - len(self.examples))
        return x0

    def labels_of(self, indices: Tensor) -> Tensor:
        ours = indices < len(self.examples)
        labels = torch.full((len(indices),), len(self.label_names) - 1)
        if bool(ours.any()):
            labels[ours] = self.examples.labels_of(indices[ours])
        return labels

    def weights(self, labels: Tensor) -> Tensor:
        """By how often a batch brings each label, which is not how many there are of it."""
        ours, batch = self.occurrences[:-1].double(), 65536
        often = torch.cat([ours / ours.sum() * (batch - self._of(batch)), torch.tensor([float(self._of(batch))])])
        return self.head.weights(labels, often, batch)

    def _of(self, count: int) -> int:
        """The others among so many."""
        return max(1, min(count - 1, round(count * self.share)))


@frozen(eq=False)
class _SideBySide:
    """Batches of two orders as one, mixed: an example's place in a batch says at which noise level it is learned."""

    ours: Batches
    others: Batches
    first: int
    seed: int

    def batches(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed % 2**63)
        for ours, others in zip(self.ours.batches(), self.others.batches(), strict=False):
            together = torch.cat([ours, self.first + others])
            yield together[torch.randperm(len(together), generator=generator)]


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes)
