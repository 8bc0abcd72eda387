"""Skipped layers: some blocks of a transformer are left out."""

from ....guidance_core.frozen import frozen
from .base import BlockWeakening


@frozen
class SkippedLayers(BlockWeakening):
    name = "skipped_layers"
    title = "Skipped layers (SLG)"
    doc = "Leaves whole blocks of the transformer out: better hands and bodies, as Stable Diffusion 3.5 uses it."
    source = "Stability AI's reference for SD 3.5 medium (blocks 7 to 9 of 24), as ComfyUI's SkipLayerGuidanceDiT"
    rank = 2
    depth = 8.5 / 24
    count = 3

    def knows(self, kind):
        return kind.skips

    def applied(self, options, kind, blocks):
        for block in blocks:
            options = kind.skipped(options, block, lambda inside: True)
        return options
