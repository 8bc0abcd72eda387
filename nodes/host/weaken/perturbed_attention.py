"""Perturbed attention: each token of a block sees itself alone."""

from ....guidance_core.frozen import frozen
from .base import BlockWeakening


@frozen
class PerturbedAttention(BlockWeakening):
    name = "perturbed_attention"
    title = "Perturbed attention (PAG)"
    doc = "Each place of the picture sees itself alone in these blocks: what is led away from has lost its structure."
    source = "PAG, Ahn et al. 2024, arXiv:2403.17377; on transformers as diffusers' guider has it"
    rank = 0

    def applied(self, options, kind, blocks):
        for block in blocks:
            options = kind.attended(options, block, lambda attention: attention.values)
        return options
