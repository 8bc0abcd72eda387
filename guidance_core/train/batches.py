"""Batches of a source: what is held out, what is drawn, and how it is noised and shared out among processes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.augment import Augment
from ..data.sources import Source
from ..paths import VP
from ..tensors import expand
from .distributed import Share


@dataclass(frozen=True, eq=False)
class Batches:
    """The examples of a source as a network sees them. y: what the head's loss takes, of all examples."""

    source: Source
    y: Tensor
    log_snr_range: tuple[float, float]
    device: torch.device
    share: Share

    def levels(self, count: int, generator: torch.Generator) -> Tensor:
        """Log-SNRs [count], spread evenly over the range."""
        return uniform_levels(count, *self.log_snr_range, generator)

    def noised(
        self, indices: Tensor, log_snr: Tensor, generator: torch.Generator, augment: Augment | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(x, log_snr, y) of this process's share of a batch, x in the VP frame.

        Everything random is drawn for the whole batch, so that it is the same for any number of processes.
        """
        rows = self.share.of(len(indices))
        x0 = self.source.load(indices if augment else indices[rows]).to(self.device, torch.float32)
        if augment:
            x0 = augment(x0, generator)[rows]
        noise = torch.randn((len(indices), *x0.shape[1:]), generator=generator, device=self.device)[rows]
        log_snr = log_snr[rows]
        sigma = VP.sigma_at(log_snr)
        x = expand(VP.alpha(sigma), x0) * x0 + expand(sigma, x0) * noise
        return x, log_snr, self.y[indices[rows]].to(self.device)


def drawn(among: Tensor, bounds: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the indices `among`, on the CPU; bounds: the running sum of how often each is to come, float64."""
    draw = torch.rand(count, generator=generator, device=generator.device).cpu().double() * bounds[-1]
    return among[torch.searchsorted(bounds, draw, right=True).clamp(max=len(among) - 1)]


def uniform_levels(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """`count` draws, each uniform in [low, high), one from each of `count` equal parts (low variance), [count]."""
    part = torch.arange(count, device=generator.device)
    return low + (high - low) * (part + torch.rand(count, generator=generator, device=generator.device)) / count


def split(groups: Tensor, strata: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(training, held out): the indices of two parts that have no group in common.

    About `share` (a half at most) of the groups of each stratum is held out: one at least where it has four or more. A
    group belongs to the stratum of its first example. groups and strata: long [N].
    """
    first = first_of_each(groups)
    _, group = groups.unique(return_inverse=True)
    strata = torch.empty(len(first), dtype=strata.dtype).index_copy(0, group[first], strata[first])
    held = torch.zeros(len(first), dtype=torch.bool)
    for stratum in strata.unique():
        members = (strata == stratum).nonzero()[:, 0]
        count = max(round(share * len(members)), int(len(members) >= 4))
        shuffled = members[torch.randperm(len(members), generator=generator)]
        held[shuffled[:count]] = True
    return (~held[group]).nonzero()[:, 0], held[group].nonzero()[:, 0]


def first_of_each(groups: Tensor) -> Tensor:
    """The index of the first example of each group."""
    seen: dict[int, int] = {}
    for i, group in enumerate(groups.tolist()):
        seen.setdefault(group, i)
    return torch.tensor(list(seen.values()), dtype=torch.long)
