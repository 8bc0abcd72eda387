"""The data of a training run: what is held out, what is drawn, and how it is noised and shared out among processes."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..classifier.heads import Head
from ..data.augment import Augment
from ..data.sources import Source, TensorSource
from ..distributed import Process
from ..errors import GuidanceError
from ..frozen import frozen
from ..paths import VP
from ..tensors import check_floating, expand
from .settings import TrainSettings


class Reader(Protocol):
    """Gives latents [n, C, ...] of examples by number."""

    def load(self, indices: Tensor) -> Tensor: ...


class Targets(Protocol):
    """Gives what the head's loss takes, of examples by number."""

    def __getitem__(self, indices: Tensor) -> Tensor: ...


@frozen(eq=False)
class Examples:
    """A batch of `count`, of which this process has its part, or all of x0 where it is to be augmented.

    x0 [n, C, ...] and y. weights: of the loss of each example of the part, where they differ.
    """

    count: int
    x0: Tensor
    y: Tensor
    weights: Tensor | None = None


@frozen(eq=False)
class NoisyData:
    """The examples of a source as a network sees them. y: what the head's loss takes, of all examples."""

    source: Reader
    y: Targets
    log_snr_range: tuple[float, float]
    device: torch.device
    process: Process

    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        """Log-SNRs [count], spread evenly over the range."""
        return uniform_levels(count, *self.log_snr_range, generator)

    def read(self, indices: Tensor, whole: bool) -> Examples:
        """This process's part of a batch; whole: all of its x0."""
        part = indices[self.process.part_of(len(indices))]
        return Examples(len(indices), self.source.load(indices if whole else part), self.y[part])

    def noised(
        self, indices: Tensor, log_snr: Tensor, generator: torch.Generator, augment: Augment | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(x, log_snr, y) of this process's part of a batch, x in the VP frame."""
        return self.noise(self.read(indices, augment is not None), log_snr, generator, augment)

    def noise(
        self, examples: Examples, log_snr: Tensor, generator: torch.Generator, augment: Augment | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(x, log_snr, y) of examples that were read, likewise.

        Everything random is drawn for the whole batch, so that it is the same for any number of processes.
        """
        part = self.process.part_of(examples.count)
        x0 = examples.x0.to(self.device, torch.float32)
        if augment:
            x0 = augment(x0, generator)[part]
        eps = torch.randn((examples.count, *x0.shape[1:]), generator=generator, device=self.device)[part]
        log_snr = log_snr[part]
        sigma = expand(VP.sigma_at(log_snr), x0)
        alpha = VP.alpha(sigma)
        x = alpha * x0 + sigma * eps
        return x, log_snr, examples.y.to(self.device)


@frozen(eq=False)
class Subset:
    """Some of the examples: their indices [n], on the CPU, and how often each is to come, float64 [n].

    sizes: long [n], where latents of different size cannot be one batch.
    """

    indices: Tensor
    weights: Tensor
    sizes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def bounds(self) -> Tensor:
        """The running sum of the weights."""
        return self.weights.cumsum(0)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` of the indices."""
        place = torch.rand(count, generator=generator, device=generator.device).cpu().double() * self.bounds[-1]
        return self.indices[torch.searchsorted(self.bounds, place, right=True).clamp(max=len(self) - 1)]

    def feed(
        self, data: NoisyData, batch: int, generator: torch.Generator, start: int, whole: bool
    ) -> Iterator[Examples]:
        """Endless batches, drawn one by one; `start` steps were made, and the generator has drawn for them."""
        while True:
            yield data.read(self.draw(batch, generator), whole)


def uniform_levels(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """`count` draws, each uniform in [low, high), one from each of `count` equal parts (low variance), [count]."""
    part = torch.arange(count, device=generator.device)
    return low + (high - low) * (part + torch.rand(count, generator=generator, device=generator.device)) / count


def as_source(latents: Tensor | Source, labels: Tensor | Sequence | None) -> Source:
    """A source as it is, or latents with their labels. Raises GuidanceError for latents without labels."""
    if not isinstance(latents, Tensor | np.ndarray | list):
        return latents
    tensor = check_floating("latents", latents)
    if labels is None:
        raise GuidanceError("Latents need labels, one each; only a Source brings its own.")
    if not isinstance(labels, Tensor) and any(isinstance(label, str) for label in labels):
        raise GuidanceError(
            "labels must be numbers, one a latent, not names: pass [label_names.index(name) for name in labels]."
        )
    return TensorSource(tensor, torch.as_tensor(labels))


def training_and_held_out(
    source: Source, names: Sequence[str], head: Head, settings: TrainSettings
) -> tuple[Subset, Subset]:
    """The examples to learn from and those to validate with. Raises GuidanceError where the labels do not suffice."""
    labels = source.labels
    head.check(labels, names, settings.fewest)
    training, held_out = torch.arange(len(labels)), torch.arange(0)
    if settings.hold_out:
        groups = source.groups
        head.check(labels[first_of_each(groups)], names, settings.fewest)
        generator = torch.Generator().manual_seed(int(settings.seed))
        training, held_out = split(groups, head.strata(labels), settings.hold_out, generator)
        head.check(labels[training], names, 1)

    def subset(indices: Tensor) -> Subset:
        if settings.balance and len(indices):
            return Subset(indices, head.balance(labels[indices]))
        return Subset(indices, torch.ones(len(indices), dtype=torch.float64))

    return subset(training), subset(held_out)


def split(groups: Tensor, strata: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(training, held out): the indices of two parts that have no group in common.

    About `fraction` (a half at most) of the groups of each stratum is held out: one at least where it has four or more.
    A group belongs to the stratum of its first example. groups and strata: long [N].
    """
    first = first_of_each(groups)
    _, group = groups.unique(return_inverse=True)
    strata = torch.empty(len(first), dtype=strata.dtype).index_copy(0, group[first], strata[first])
    held = torch.zeros(len(first), dtype=torch.bool)
    for stratum in strata.unique():
        members = (strata == stratum).nonzero()[:, 0]
        count = max(round(fraction * len(members)), int(len(members) >= 4))
        shuffled = members[torch.randperm(len(members), generator=generator)]
        held[shuffled[:count]] = True
    return (~held[group]).nonzero()[:, 0], held[group].nonzero()[:, 0]


def first_of_each(groups: Tensor) -> Tensor:
    """The index of the first example of each group."""
    seen: dict[int, int] = {}
    for i, group in enumerate(groups.tolist()):
        seen.setdefault(group, i)
    return torch.tensor(list(seen.values()), dtype=torch.long)
