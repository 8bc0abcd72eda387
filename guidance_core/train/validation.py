"""Validation during training: loss and accuracy on the held-out part, by noise level, at noise that never changes."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from ..classifier.heads import Head
from ..frozen import frozen
from .data import NoisyData, Subset
from .optimization import summing

BINS = 5
"""Parts of the log-SNR range for which there are figures."""
DRAWS = (512, 4096)
"""The fewest and the most noisy samples of a validation; a small held-out part is used several times over."""


@frozen
class ValidationBin:
    """Loss and accuracy between two log-SNRs."""

    log_snr_low: float
    log_snr_high: float
    loss: float
    accuracy: float


@frozen
class Validation:
    """What the averaged weights make of the held-out part.

    loss: -log p without penalty or smoothing, in nats. accuracy: see heads (R^2 for scores). best: whether the loss is
    the lowest of the run so far.
    """

    loss: float
    accuracy: float
    bins: tuple[ValidationBin, ...]
    best: bool


@frozen(eq=False)
class Validator:
    """Measures a network on the examples that are held out, in batches, each counting by its weight."""

    data: NoisyData
    head: Head
    held_out: Subset
    batch: int
    seed: int

    @torch.no_grad()
    def __call__(self, network: nn.Module, least: float, precision: AbstractContextManager) -> Validation:
        """The figures, the same in every process; least: the lowest loss before."""
        device, process = self.data.device, self.data.process
        low, high = self.data.log_snr_range
        generator = torch.Generator(device).manual_seed(self.seed)
        count = min(max(DRAWS[0], len(self.held_out)), DRAWS[1])
        order = torch.randperm(len(self.held_out), generator=torch.Generator().manual_seed(self.seed))
        order = order.repeat(math.ceil(count / len(order)))[:count]
        levels = self.data.draw_levels(count, generator)
        # of the weights, and of loss and accuracy times them
        totals = torch.zeros(BINS, 3, dtype=summing(device), device=device)
        for chosen in self._batches(order):
            part = order[chosen]
            x, log_snr, y = self.data.noised(self.held_out.indices[part], levels[chosen.to(device)], generator)
            if not len(x):
                continue  # fewer samples than processes
            with precision:
                logits = torch.cat([network(x[piece], log_snr[piece]) for piece in process.pieces_of(len(part))])
            figures = [torch.ones_like(log_snr), self.head.loss(logits, y), self.head.accuracy(logits, y)]
            weight = self.held_out.weights[part[process.part_of(len(part))]].to(logits)
            which = ((log_snr - low) / (high - low) * BINS).long().clamp(0, BINS - 1)
            totals.index_add_(0, which, (weight[:, None] * torch.stack(figures, 1)).to(totals))
        totals = process.all_reduce(totals).cpu().double()
        means = totals[:, 1:] / totals[:, :1]
        edges = torch.linspace(low, high, BINS + 1).tolist()
        bins = (ValidationBin(*edges[i : i + 2], *means[i].tolist()) for i in range(BINS))
        loss, accuracy = (totals[:, 1:].sum(0) / totals[:, 0].sum()).tolist()
        return Validation(loss, accuracy, tuple(bins), loss < least)

    def _batches(self, order: Tensor) -> Iterator[Tensor]:
        """The places in the order, a batch at a time, latents of one size together."""
        places = torch.arange(len(order))
        if self.held_out.sizes is None:
            yield from places.split(self.batch)
            return
        sizes = self.held_out.sizes[order]
        for size in sizes.unique():
            yield from places[sizes == size].split(self.batch)
