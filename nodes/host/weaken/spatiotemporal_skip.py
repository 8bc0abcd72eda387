"""Spatio-temporal skip: the self-attention of some blocks of a video model is skipped."""

from ....guidance_core.frozen import frozen
from .perturbed_attention import PerturbedAttention


@frozen
class SpatiotemporalSkip(PerturbedAttention):
    name = "spatiotemporal_skip"
    title = "Spatio-temporal skip (STG-A)"
    doc = "For video: skips the attention over space and time in these blocks: steadier motion and firmer shapes."
    source = "STG, Hyung et al. 2024, arXiv:2411.18664, its form STG-A; the usual block is LTX-Video's 19 of 28"
    rank = 3
    depth = 19.5 / 28

    def knows(self, kind):
        return kind.video
