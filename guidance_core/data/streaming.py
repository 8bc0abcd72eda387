"""What training asks of a stream of examples: numbers in an order of its own, and what is behind a few of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from ..classifier.heads import Head


class Batches(Protocol):
    """An order of examples, always the same."""

    def batches(self) -> Iterator[Tensor]:
        """Endless batches of example numbers, long [batch] each; none at all where no example is kept."""


class Stream(ABC):
    """Examples by number, of which no list is in memory. occurrences: of each label, [K], where that is known.

    workers: processes that read ahead; 0 reads when asked. What is read may raise GuidanceError.
    """

    label_names: tuple[str, ...]
    head: Head
    latent_space: str
    occurrences: Tensor | None
    workers: int

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of the first latent."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A short text that changes with any example, and with their order."""

    @abstractmethod
    def order(self, batch: int, seed: int, hold_out: float = 0.0) -> Batches:
        """Batches of the examples that are not held out."""

    @abstractmethod
    def held_out(self, hold_out: float, seed: int, most: int) -> Tensor:
        """The numbers of up to `most` of the examples that are held out, long [n], in an order drawn by the seed."""

    @abstractmethod
    def sample_labels(self) -> Tensor:
        """The labels of some examples from everywhere."""

    @abstractmethod
    def size_of(self, indices: Tensor) -> Tensor:
        """A number of the sizes of examples, long [n]: one batch has one size."""

    @abstractmethod
    def load(self, indices: Tensor) -> Tensor:
        """x0 float32 [n, *shape] of examples of one size."""

    @abstractmethod
    def labels_of(self, indices: Tensor) -> Tensor:
        """As Source.labels, of some examples."""

    def weights(self, labels: Tensor) -> Tensor | None:
        """Of examples with these labels, as batches bring them: what makes every class weigh the same, on average 1."""
        return None if self.occurrences is None else self.head.weights(labels, self.occurrences, len(self))
