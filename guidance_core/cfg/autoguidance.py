"""Autoguidance: a weaker version of the model in the place of the unconditional prediction."""

from dataclasses import replace

from ..frozen import frozen
from ..params import socket
from . import order
from .base import Decision, Method, Phase


@frozen(eq=False)
class Autoguidance(Method):
    name = "autoguidance"
    title = "Autoguidance"
    doc = "Leads away from what a weaker version of the model would do: better pictures, as varied as unguided ones."
    source = "Karras et al. 2024, arXiv:2406.02507"
    rank = order.ANOTHER_MODEL
    decides = frozenset({Decision.DIRECTION})
    weak: object = socket(
        "model",
        "A smaller or less trained version of the model, run on the same prompt; the negative is not run.",
        needed=True,
    )

    @property
    def replaces_uncond(self):
        return self.weak is not None

    @property
    def own_passes(self):
        return int(self.weak is not None)

    def start(self, run):
        if self.weak is None:  # the prediction to lead away from is given as uncond
            return {}
        weak_of = run.denoiser_of(self.weak)

        def stage(p):
            weak = weak_of(p.x, p.sigma)
            return p if weak is None else replace(p, uncond=weak.to(p.cond.dtype))

        return {Phase.PREDICTIONS: stage}
