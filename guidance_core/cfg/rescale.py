"""Rescaled guidance: gives the guided prediction the spread of the conditional one."""

from dataclasses import dataclass, replace

from ..params import number
from ..tensors import expand, std
from .base import Method, Phase


def rescaled(guided, cond, rescale):
    """rescale * guided * std(cond) / std(guided) + (1 - rescale) * guided, per sample (arXiv:2305.08891, eq. 15-16)."""
    spread = std(guided)
    ratio = (std(cond) / spread).where(spread > 0, spread.new_ones(()))
    return guided * expand(rescale * ratio + (1 - rescale), guided)


@dataclass(frozen=True)
class Rescale(Method):
    name = "rescale"
    title = "Rescale"
    doc = "Takes back the contrast and saturation that a high scale adds, measured in the model's own output space."
    source = "Lin et al. 2023, arXiv:2305.08891"
    rank = 10
    decides = frozenset({"the size of the result"})
    rescale: float = number(0.7, 0.0, 1.0, 0.01, "How much of the extra contrast to take back; 0 is plain guidance.")

    def start(self, run):
        own = run.parameterization

        def stage(p):
            cond = own.output(p.cond, p.x, p.sigma, run.path)
            guided = own.output(p.guided, p.x, p.sigma, run.path)
            guided = rescaled(guided, cond, self.rescale)
            return replace(p, guided=own.denoised(guided, p.x, p.sigma, run.path))

        return {Phase.RESULT: stage}
