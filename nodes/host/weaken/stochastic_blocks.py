"""Stochastic blocks: at every step other blocks of a transformer are left out, drawn by a seed."""

from functools import partial

import torch

from ....guidance_core.frozen import frozen
from ....guidance_core.params import integer, number
from ..architectures import Block, Options
from .base import BlockWeakening
from .draws import drawn_at


@frozen
class StochasticBlocks(BlockWeakening):
    name = "stochastic_blocks"
    title = "Stochastic blocks (S2)"
    doc = "Leaves other blocks out at every step: no need to know which ones matter."
    source = "S2-Guidance, Chen et al. 2025, arXiv:2508.12880"
    rank = 4
    share: float = number(0.1, 0.01, 0.5, 0.01, "Share of the blocks that is left out at a step, one at least.")
    seed: int = integer(0, 0, 2**32 - 1, "Draws the blocks; the same seed leaves out the same ones.")

    def knows(self, kind):
        return kind.skips

    def usual(self, there):
        """All but the first and the last, which bring the picture in and out."""
        return there[1:-1] or there

    def applied(self, options, kind, blocks):
        for block in blocks:
            options = kind.skipped(options, block, partial(self._left_out, block, blocks))
        return options

    def _left_out(self, block: Block, blocks: list[Block], inside: Options) -> bool:
        """Whether a block is among those left out at the noise level of the call."""
        count = max(1, round(self.share * len(blocks)))
        return (
            blocks.index(block) in torch.randperm(len(blocks), generator=drawn_at(inside, self.seed))[:count].tolist()
        )
