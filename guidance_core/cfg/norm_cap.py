"""A cap on the size of the guided prediction, as in Lumina-Image."""

from dataclasses import replace

from ..frozen import frozen
from ..params import number
from ..tensors import excess, expand, norm, ratio, sample_axes
from . import order
from .base import Decision, Method, Phase


def cap_gain(guided, cond, difference, cap):
    """Of each sample, what min(1, cap * |cond| / |guided|) is beyond 1. difference: guided - cond."""
    beyond = excess(guided, cond, difference, sample_axes(guided))
    allowed = (cap - 1) * expand(ratio(norm(cond), norm(guided)), guided)
    return (allowed - beyond).clamp(max=0)


@frozen
class NormCap(Method):
    name = "norm_cap"
    title = "Norm cap"
    doc = "Does not let the guided prediction grow beyond the conditional one: no glare at high scales."
    source = "Lumina-Image 2.0, arXiv:2503.21758 (CFG renormalisation), per sample; in the model's own output space"
    rank = order.SIZE_CAPPED
    decides = frozenset({Decision.SIZE})
    cap: float = number(
        1.0, 0.1, 10.0, 0.05, "Largest size of the result; 1 is the size of the conditional prediction."
    )

    def start(self, run):
        own = run.parameterization

        def stage(p):
            cond, guided = (own.output(denoised, p.x, p.sigma, run.path) for denoised in (p.cond, p.guided))
            difference = own.output_change(p.guided - p.cond, p.x, p.sigma, run.path)
            gain = cap_gain(guided, cond, difference, self.cap)
            return replace(p, guided=own.with_output_gained(p.guided, gain, p.x, p.sigma, run.path))

        return {Phase.RESULT: stage}
