"""Spatio-temporal skip of residuals: some whole blocks of a video model are skipped, of which the skip remains."""

from ....guidance_core.frozen import frozen
from .skipped_layers import SkippedLayers
from .spatiotemporal_skip import SpatiotemporalSkip


@frozen
class SpatiotemporalResidual(SkippedLayers):
    name = "spatiotemporal_residual"
    title = "Spatio-temporal residual skip (STG-R)"
    doc = "For video: skips these blocks as a whole, and not their attention alone."
    source = "STG, Hyung et al. 2024, arXiv:2411.18664, its form STG-R; blocks as for STG-A"
    rank = 5
    depth = SpatiotemporalSkip.depth
    count = SpatiotemporalSkip.count

    def knows(self, kind):
        return kind.video and kind.skips
