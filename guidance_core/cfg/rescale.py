"""Rescaled guidance: gives the guided prediction the spread of the conditional one."""

from dataclasses import replace

from ..frozen import frozen
from ..params import number
from ..tensors import excess, sample_axes
from . import order
from .base import Decision, Method, Phase


def rescale_gain(guided, cond, difference, rescale):
    """Of each sample, what rescale * std(cond) / std(guided) + (1 - rescale) is beyond 1 (arXiv:2305.08891, eq. 15-16).

    difference: guided - cond.
    """
    axes = sample_axes(guided)
    guided, cond, difference = (a - a.mean(axes, keepdim=True) for a in (guided, cond, difference))
    return -rescale * excess(guided, cond, difference, axes)


@frozen
class Rescale(Method):
    name = "rescale"
    title = "Rescale"
    doc = "Takes back the contrast and saturation that a high scale adds, measured in the model's own output space."
    source = "Lin et al. 2023, arXiv:2305.08891"
    rank = order.SIZE
    decides = frozenset({Decision.SIZE})
    rescale: float = number(0.7, 0.0, 1.0, 0.01, "How much of the extra contrast to take back; 0 is plain guidance.")

    def start(self, run):
        own = run.parameterization

        def stage(p):
            cond = own.output(p.cond, p.x, p.sigma, run.path)
            guided = own.output(p.guided, p.x, p.sigma, run.path)
            difference = own.output_change(p.guided - p.cond, p.x, p.sigma, run.path)
            gain = rescale_gain(guided, cond, difference, self.rescale)
            return replace(p, guided=own.with_output_gained(p.guided, gain, p.x, p.sigma, run.path))

        return {Phase.RESULT: stage}
