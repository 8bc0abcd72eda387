"""CFG++ on any sampler: the scale at which an ordinary DDIM step is the CFG++ step."""

from dataclasses import replace

from ..frozen import frozen
from ..params import number
from ..tensors import expand
from . import order
from .base import Decision, Method, Phase


@frozen
class CfgPlusPlus(Method):
    name = "cfg_pp"
    title = "CFG++"
    doc = "Weak guidance at first that grows to the end: natural pictures. Use an ordinary sampler (ddim, euler)."
    source = "Chung et al. 2024, arXiv:2406.08070, as the scale that makes a DDIM step equal"
    rank = order.EFFECTIVE_SCALE
    decides = frozenset({Decision.SCALE})
    full_scale: float = number(
        12.5,
        1.0,
        100.0,
        0.5,
        "The scale that stands for the paper's lambda of 1: lambda = scale / this.",
        advanced=True,
    )

    def uncond_at_zero(self, strength):
        return strength == 1

    def start(self, run):
        def stage(p):
            # w = lambda a' s / (a' s - s' a), for the step from (a, s) to (a', s'); without a run, a step to clean
            after = p.sigma.new_tensor([run.level_after(level, p.step) for level in p.sigma.tolist()])
            alpha, alpha_after = run.path.alpha(p.sigma), run.path.alpha(after)
            reach = alpha_after * p.sigma
            scale = 1 + (p.scale - 1) / p.strength  # as set, before the schedule, which fades CFG++ as a whole
            full = scale / self.full_scale * expand(reach / (reach - after * alpha), p.x)
            return replace(p, scale=1 + p.strength * (full - 1))

        return {Phase.SCALE: stage}
