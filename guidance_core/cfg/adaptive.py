"""Adaptive guidance: the unconditional pass stops once it says the same as the conditional one."""

from dataclasses import replace

import torch

from ..frozen import frozen
from ..parameterizations import VELOCITY, V
from ..params import number
from ..paths import FLOW
from ..tensors import dot, norm
from . import order
from .base import Method, Phase


def cosine(a, b):
    """Cosine of the angle between two samples, [B]; 1 where one of them is 0."""
    sizes = norm(a) * norm(b)
    return torch.where(sizes > 0, dot(a, b) / torch.where(sizes > 0, sizes, 1), 1).clamp(max=1)


@frozen
class Adaptive(Method):
    name = "adaptive"
    title = "Adaptive"
    doc = "Stops guiding a picture for the rest of the run once both predictions agree, which saves the second pass."
    source = "Castillo et al. 2023, arXiv:2312.12487; in v, on flow in velocity"
    rank = order.AGREEMENT
    gamma: float = number(
        0.991, -1.0, 1.0, 0.001, "Agreement (cosine) beyond which guidance stops: lower stops sooner, 1 never."
    )

    def start(self, run):
        space = VELOCITY if run.path is FLOW else V

        def stage(p):
            # not in eps: at the noisy end the eps of any two predictions agree, on flow exactly
            cond, uncond = (space.output(denoised, p.x, p.sigma, run.path) for denoised in (p.cond, p.uncond))
            return replace(p, settled=cosine(cond, uncond) > self.gamma)

        return {Phase.PREDICTIONS: stage}
