"""A cap on the size of the guided prediction, as in Lumina-Image."""

from dataclasses import dataclass, replace

import torch

from ..params import number
from ..tensors import expand, norm
from .base import Method, Phase


@dataclass(frozen=True)
class NormCap(Method):
    name = "norm_cap"
    title = "Norm cap"
    doc = "Does not let the guided prediction grow beyond the conditional one: no glare at high scales."
    source = "Lumina-Image 2.0, arXiv:2503.21758 (CFG renormalisation), per sample; in the model's own output space"
    rank = 20
    decides = frozenset({"the size of the result"})
    cap: float = number(
        1.0, 0.1, 10.0, 0.05, "Largest size of the result; 1 is the size of the conditional prediction."
    )

    def start(self, run):
        own = run.parameterization

        def stage(p):
            cond, guided = (own.output(denoised, p.x, p.sigma, run.path) for denoised in (p.cond, p.guided))
            most, size = self.cap * norm(cond), norm(guided)
            factor = torch.where(size > most, most / torch.where(size > most, size, 1), 1)
            return replace(p, guided=own.denoised(expand(factor, guided) * guided, p.x, p.sigma, run.path))

        return {Phase.RESULT: stage}
