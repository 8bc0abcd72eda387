"""CFG-Zero*: guidance for flow models that does not trust the first steps."""

import math
from dataclasses import dataclass, replace

import torch

from ..params import number
from ..tensors import dot, expand
from .base import Method, Phase

EPS = 1e-8  # the paper's own, in the denominator


@dataclass(frozen=True)
class CfgZeroStar(Method):
    name = "cfg_zero_star"
    title = "CFG-Zero*"
    doc = (
        "Fits the unconditional prediction to the conditional one and waits at the first steps: cleaner flow pictures."
    )
    source = "Fan et al. 2025, arXiv:2503.18886; in the model's own output space (velocity on flow models)"
    rank = 90
    zero_init: float = number(
        0.04,
        0.0,
        0.5,
        0.01,
        "Share of the run's first steps that are left out, one at least; 0 is none.",
        advanced=True,
    )

    def start(self, run):
        own = run.parameterization
        steps = math.ceil(self.zero_init * len(run.levels)) if self.zero_init > 0 and run.begins_in_noise else 0
        last = run.levels[steps - 1] * (1 - 1e-6) if steps else math.inf  # zero from here up

        def fit(p):
            cond = own.output(p.cond, p.x, p.sigma, run.path)
            uncond = own.output(p.uncond, p.x, p.sigma, run.path)
            s = dot(cond, uncond) / (dot(uncond, uncond) + EPS)
            return replace(p, uncond=own.denoised(expand(s, p.x) * uncond, p.x, p.sigma, run.path))

        def wait(p):
            zero = own.denoised(torch.zeros_like(p.x), p.x, p.sigma, run.path)
            return replace(p, guided=torch.where(expand(p.sigma >= last, p.x).bool(), zero, p.guided))

        return {Phase.PREDICTIONS: fit, Phase.RESULT: wait} if steps else {Phase.PREDICTIONS: fit}
