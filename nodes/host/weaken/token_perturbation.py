"""Token perturbation: the picture's tokens are shuffled before each layer of some blocks, drawn by a seed."""

from functools import partial

import torch
from torch import Tensor

from ....guidance_core.frozen import frozen
from ....guidance_core.params import integer
from ..architectures import Options
from .base import BlockWeakening
from .draws import drawn_at

LAYERS = 64  # more than a block has


@frozen
class TokenPerturbation(BlockWeakening):
    name = "token_perturbation"
    title = "Token perturbation (TPG)"
    doc = "Shuffles the places of the picture before each layer of these blocks: what is led away from lost its order."
    source = (
        "TPG, Rajabi et al. 2025, arXiv:2506.10036; the authors measured UNets, in the deeper blocks of the encoder"
    )
    rank = 6
    seed: int = integer(0, 0, 2**32 - 1, "Draws the shuffles; the same seed shuffles the same way.")

    def usual(self, there):
        """Of a UNet the deeper half of its input blocks; of a transformer the second quarter of its first stack."""
        first = [block for block in there if block.kind == there[0].kind]
        if first[0].kind == "input":
            return first[len(first) // 2 :]
        return first[len(first) // 4 : max(len(first) // 2, len(first) // 4 + 1)]

    def applied(self, options, kind, blocks):
        for number, block in enumerate(blocks):
            options = kind.entered(options, block, partial(self._shuffled, number))
        return options

    def _shuffled(self, number: int, tokens: Tensor, inside: Options, layer: int) -> Tensor:
        drawn = drawn_at(inside, self.seed, place=1 + number * LAYERS + layer)
        return shuffled(tokens, torch.randperm(tokens.shape[1], generator=drawn))


def shuffled(tokens: Tensor, order: Tensor) -> Tensor:
    """Tokens [B, N, d] in another order [N], the same for all of the batch."""
    return tokens[:, order.to(tokens.device)]
