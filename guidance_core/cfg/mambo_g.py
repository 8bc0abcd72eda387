"""MAMBO-G: a scale that falls where the two predictions are far apart, as they are at the first steps."""

from dataclasses import replace

from ..frozen import frozen
from ..params import number
from ..tensors import expand, norm, ratio
from . import order
from .base import Decision, Method, Phase


@frozen
class MamboG(Method):
    name = "mambo_g"
    title = "MAMBO-G"
    doc = "Holds guidance back where it would overshoot, mostly at the first steps: high scales without artifacts."
    source = "Zhu et al. 2025, arXiv:2508.03442; in the model's own output space"
    rank = order.EFFECTIVE_SCALE
    decides = frozenset({Decision.SCALE})
    alpha: float = number(8.0, 0.0, 100.0, 0.5, "How soon to hold back: higher is calmer, 0 is plain guidance.")

    def start(self, run):
        own = run.parameterization

        def stage(p):
            cond, uncond = (own.output(denoised, p.x, p.sigma, run.path) for denoised in (p.cond, p.uncond))
            damping = (-self.alpha * ratio(norm(cond - uncond), norm(uncond))).exp()
            return replace(p, scale=1 + (p.scale - 1) * expand(damping, p.x))

        return {Phase.SCALE: stage}
