"""Guidance with noise in the conditional prediction: more varied pictures."""

from dataclasses import replace

import torch

from ..frozen import frozen
from ..params import number
from ..tensors import draw_of, expand, seeded_noise
from . import order
from .base import Method, Phase


@frozen
class NoisyCondition(Method):
    name = "noisy_condition"
    title = "Noisy condition"
    doc = "Adds seeded noise to the conditional prediction: more variety, at the cost of fine detail."
    source = "tutorial variant; compare CADS, arXiv:2310.17347, which anneals noise in the condition itself"
    rank = order.NOISE
    noise: float = number(
        0.05, 0.0, 1.0, 0.01, "Size of the noise, in units of the predicted noise; 0 is plain guidance."
    )

    def uncond_at_zero(self, strength):
        return True

    def start(self, run):
        def stage(p):
            # eps_cond + noise * z, and denoised = (x - sigma * eps) / alpha
            z = seeded_noise(p.x, run.seed, [draw_of(level) for level in p.sigma.tolist()])
            alpha = run.path.alpha(p.sigma)
            # at pure noise (alpha 0) eps says nothing of the picture, and nothing is added
            size = torch.where(alpha > 0, p.sigma / alpha, torch.zeros_like(alpha))
            return replace(p, cond=p.cond - self.noise * expand(size, p.x) * z)

        return {Phase.PREDICTIONS: stage}
