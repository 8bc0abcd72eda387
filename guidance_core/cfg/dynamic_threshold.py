"""Dynamic thresholding: values that a high scale throws far out are pulled back into range."""

from dataclasses import replace

import torch

from ..frozen import frozen
from ..params import number
from ..tensors import expand, quantile, ratio
from . import order
from .base import Method, Phase


def thresholded(guided, percentile):
    """clamp(guided, -q, q) / q with q the quantile of |guided| of each sample, 1 at least (arXiv:2205.11487, 2.3)."""
    q = expand(quantile(guided.abs().flatten(1), percentile).clamp(min=1), guided)
    return guided.clamp(-q, q) / q


def mimicked(guided, mimic, percentile):
    """guided with the range of `mimic` in each channel: clamped at its quantile, scaled to mimic's largest value."""
    flat, like = guided.flatten(2), mimic.flatten(2)
    mean = flat.mean(2, keepdim=True)
    flat, most = flat - mean, (like - like.mean(2, keepdim=True)).abs().amax(2, keepdim=True)
    q = torch.maximum(quantile(flat.abs(), percentile)[..., None], most)
    return (ratio(flat.clamp(-q, q), q) * most + mean).reshape(guided.shape)


@frozen
class DynamicThreshold(Method):
    name = "dynamic_threshold"
    title = "Dynamic thresholding"
    doc = "Pulls the extremes of a high scale back into the range of a lower one: no blown-out light or dark."
    source = "Saharia et al. 2022 (Imagen), arXiv:2205.11487, section 2.3; per channel with a mimic scale for latents"
    rank = order.EXTREMES
    reads_level = False
    percentile: float = number(0.995, 0.5, 1.0, 0.001, "Share of the values that are not cut off.")
    mimic_scale: float = number(
        3.0,
        0.0,
        100.0,
        0.5,
        "Keep to the range of values that this scale gives; 0 is the paper's own form, for pixel models in [-1, 1].",
    )

    def start(self, run):
        def stage(p):
            if self.mimic_scale == 0:
                return replace(p, guided=thresholded(p.guided, self.percentile))
            return replace(p, guided=mimicked(p.guided, p.uncond + self.mimic_scale * p.difference, self.percentile))

        return {Phase.RESULT: stage}
