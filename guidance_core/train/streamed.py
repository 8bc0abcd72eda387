"""Training from a stream of shards: batches in its order, read ahead, each example weighed by how rare its label is."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.streaming import Stream
from ..distributed import Process
from ..errors import GuidanceError
from ..frozen import frozen
from .data import Examples, NoisyData, Subset
from .settings import TrainSettings

AHEAD = 4  # batches that each worker reads ahead
VALIDATING = 4096  # examples held out that are looked at


@frozen(eq=False)
class StreamedTargets:
    """What the head's loss takes, read when asked for. info: of the classifier."""

    stream: Stream
    info: dict[str, str]

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self.of(self.stream.labels_of(indices))

    def of(self, labels: Tensor) -> Tensor:
        """The same, of labels that were read already."""
        return self.stream.head.targets(labels, self.info)


@frozen(eq=False)
class Streamed:
    """The examples of a stream to learn from (see Subset). balance: whether rare labels weigh more."""

    targets: StreamedTargets
    hold_out: float
    seed: int
    balance: bool

    @property
    def stream(self) -> Stream:
        return self.targets.stream

    def __len__(self) -> int:
        """About: which examples are held out is known when they are read."""
        return round(len(self.stream) * (1 - self.hold_out))

    def feed(
        self, data: NoisyData, batch: int, generator: torch.Generator, start: int, whole: bool
    ) -> Iterator[Examples]:
        """The batches after `start` steps. Raises GuidanceError for a shard that cannot be read."""
        batches = islice(self.stream.order(batch, self.seed, self.hold_out).batches(), start, None)
        numbers = map(Tensor.tolist, batches)  # a thread would send tensors, beside which OpenMP's threads sleep
        workers = self.stream.workers
        loader = DataLoader(
            _Reading(self, data.process, whole),
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            collate_fn=_same,
        )
        try:
            for found in loader:
                if isinstance(found, GuidanceError):
                    raise found
                yield found.examples()
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise GuidanceError(
                f"A process that reads shards ahead ended ({str(error).splitlines()[0]}): free some memory, or read "
                f"with fewer workers."
            ) from error
        raise GuidanceError("Everything is held out, and nothing is left to learn from: lower hold_out.")

    def weights(self, labels: Tensor) -> Tensor | None:
        """Of examples with these labels: what makes every class weigh the same, on average 1."""
        return self.stream.weights(labels) if self.balance else None


@frozen(eq=False)
class _Read:
    """Examples as a process hands them over: arrays for the small ones, since a tensor costs it a file to share."""

    count: int
    x0: Tensor
    y: np.ndarray
    weights: np.ndarray | None

    def examples(self) -> Examples:
        weights = None if self.weights is None else torch.from_numpy(self.weights)
        return Examples(self.count, self.x0, torch.from_numpy(self.y), weights)


@frozen(eq=False)
class _Reading(Dataset):
    """Reads a batch, in whatever process; what is refused comes back as a value, and not as a traceback."""

    training: Streamed
    process: Process
    whole: bool

    def __getitem__(self, numbers: list[int]) -> _Read | GuidanceError:
        indices = torch.tensor(numbers)
        try:
            part = indices[self.process.part_of(len(indices))]
            labels = self.training.stream.labels_of(part)
            x0 = self.training.stream.load(indices if self.whole else part)
        except GuidanceError as error:
            return GuidanceError(str(error))
        weights = self.training.weights(labels)
        y = self.training.targets.of(labels).numpy()
        return _Read(len(indices), x0, y, None if weights is None else weights.numpy())


def streamed(stream: Stream, settings: TrainSettings) -> tuple[Streamed, Subset, StreamedTargets]:
    """(what is learned from, what validates, y). Raises GuidanceError where a label has too few examples."""
    labels, seed = stream.sample_labels(), int(settings.seed)
    _check(stream, labels, settings)
    y = StreamedTargets(stream, stream.head.statistics(labels))
    training = Streamed(y, settings.hold_out, seed, settings.balance)
    held = stream.held_out(settings.hold_out, seed, VALIDATING) if settings.hold_out else torch.arange(0)
    if settings.hold_out and not len(held):
        raise GuidanceError(
            f"None of {len(stream)} examples is held out: raise hold_out (it is {settings.hold_out:g})."
        )
    weights = training.weights(stream.labels_of(held)) if len(held) else None
    if weights is None:
        weights = torch.ones(len(held))
    return training, Subset(held, weights.double(), stream.size_of(held)), y


def _check(stream: Stream, labels: Tensor, settings: TrainSettings) -> None:
    if stream.occurrences is None:
        stream.head.check(labels, stream.label_names, 1)
        return
    stream.head.check(labels, stream.label_names, 0)
    for name, count in zip(stream.label_names, stream.occurrences.tolist(), strict=True):
        if count < settings.fewest:
            raise GuidanceError(
                f"There are {count:g} pictures of '{name}', and at least {settings.fewest} are needed: add some, or "
                f"leave the label out."
            )


def _same(batch):
    return batch
