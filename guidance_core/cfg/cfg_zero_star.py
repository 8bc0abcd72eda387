"""CFG-Zero*: guidance for flow models that does not trust the first steps."""

import math
from dataclasses import replace

import torch

from ..frozen import frozen
from ..params import number
from ..run import EDGE
from ..tensors import dot, expand
from . import order
from .base import Method, Phase

EPS = 1e-8  # the paper's own, in the denominator


def first_steps(share, steps):
    """How many first steps a share of the run is, one at least where there is any share."""
    return max(1, math.ceil(share * steps - 1e-9)) if share > 0 else 0  # 0.07 * 100 is above 7


@frozen
class CfgZeroStar(Method):
    name = "cfg_zero_star"
    title = "CFG-Zero*"
    doc = (
        "Fits the unconditional prediction to the conditional one and waits at the first steps: cleaner flow pictures."
    )
    source = "Fan et al. 2025, arXiv:2503.18886; in the model's own output space (velocity on flow models)"
    rank = order.FITTED
    zero_init: float = number(
        0.04,
        0.0,
        0.5,
        0.01,
        "Share of the steps, from the first on, at which the prediction is set to zero: one at least; 0 is none.",
        advanced=True,
    )

    def start(self, run):
        own = run.parameterization
        steps = first_steps(self.zero_init, len(run.levels)) if run.begins_in_noise else 0

        def fit(p):
            uncond = own.output(p.uncond, p.x, p.sigma, run.path)
            difference = own.output_change(p.difference, p.x, p.sigma, run.path)
            # s - 1 of s = <cond, uncond> / (|uncond|^2 + EPS)
            gain = expand((dot(difference, uncond) - EPS) / (dot(uncond, uncond) + EPS), p.x)
            return replace(p, uncond=own.with_output_gained(p.uncond, gain, p.x, p.sigma, run.path))

        def wait(p):
            zero = own.denoised(torch.zeros_like(p.x), p.x, p.sigma, run.path)
            waits = p.sigma.new_tensor([run.step(level, p.step) < steps - 1 + EDGE for level in p.sigma.tolist()])
            return replace(p, guided=torch.where(expand(waits, p.x).bool(), zero, p.guided))

        return {Phase.PREDICTIONS: fit, Phase.RESULT: wait} if steps else {Phase.PREDICTIONS: fit}
