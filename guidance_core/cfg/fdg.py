"""Frequency-decoupled guidance: weak guidance of large shapes and colours, strong guidance of detail."""

import torch
from torch.nn import functional as F

from ..errors import GuidanceError
from ..frozen import frozen
from ..params import number
from . import order
from .base import Method, Phase

BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


def blurred(a):
    """a [N, C, H, W] blurred with the binomial window [1 4 6 4 1] / 16 along both axes."""
    weight = torch.tensor(BINOMIAL, dtype=a.dtype, device=a.device) / sum(BINOMIAL)
    mode = "reflect" if min(a.shape[-2:]) > 2 else "replicate"
    flat = F.pad(a.flatten(0, 1)[:, None], (2, 2, 2, 2), mode=mode)
    flat = F.conv2d(F.conv2d(flat, weight.reshape(1, 1, 1, -1)), weight.reshape(1, 1, -1, 1))
    return flat.reshape(a.shape)


def low_frequencies(a):
    """The coarse level of a two-level Laplacian pyramid of a [B, C, (T,) H, W], at full size; frame by frame."""
    if a.ndim < 4:
        raise GuidanceError(f"fdg needs pictures or video [B, C, (T,) H, W], got {list(a.shape)}: use another method.")
    frames = a.transpose(1, 2).flatten(0, 1) if a.ndim == 5 else a
    height, width = frames.shape[-2:]
    small = F.interpolate(blurred(frames), (max(1, height // 2), max(1, width // 2)), mode="bilinear")
    low = blurred(F.interpolate(small, (height, width), mode="bilinear"))
    return low.unflatten(0, (len(a), -1)).transpose(1, 2) if a.ndim == 5 else low


@frozen
class Fdg(Method):
    name = "fdg"
    title = "Frequency-decoupled guidance (FDG)"
    doc = "Guides detail at the full scale and large shapes and colours less: sharp, and not oversaturated."
    source = "Sadat et al. 2025, arXiv:2506.19713, two levels"
    rank = order.FREQUENCIES
    reads_level = False
    low: float = number(
        0.44,
        0.0,
        2.0,
        0.01,
        "Strength for large shapes and colours, as a share of that for detail; 1 is plain guidance.",
    )

    def start(self, run):
        def stage(p):
            # uncond + scale * difference in each band, with low-band scale 1 + (scale - 1) * low
            return p.with_difference(p.difference + (self.low - 1) * low_frequencies(p.difference))

        return {Phase.DIFFERENCE: stage}
