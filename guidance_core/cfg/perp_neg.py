"""Perp-Neg: a negative prompt that takes nothing away from the positive one."""

from dataclasses import replace

from ..frozen import frozen
from ..params import number, socket
from ..tensors import project
from . import order
from .base import Decision, Method, Phase


def perpendicular_negative(cond, negative, empty, neg_scale):
    """cond less neg_scale times the part of the negative that is perpendicular to it, both seen from empty."""
    positive, negative = cond - empty, negative - empty
    return cond - neg_scale * (negative - project(negative, positive))


@frozen(eq=False)
class PerpNeg(Method):
    name = "perp_neg"
    title = "Perp-Neg"
    doc = "The negative prompt removes only what the prompt does not ask for. Connect the empty prompt as empty."
    source = "Armandpour et al. 2023, arXiv:2304.04968, per sample"
    rank = order.ANOTHER_CONDITION
    decides = frozenset({Decision.DIRECTION})
    neg_scale: float = number(1.0, 0.0, 100.0, 0.05, "How strongly to avoid the negative prompt; 0 ignores it.")
    empty: object = socket(
        "conditioning",
        "The condition for no prompt (Null-Condition Encoder); it takes one more pass a step.",
        needed=True,
    )

    @property
    def own_passes(self):
        return int(self.empty is not None)

    def start(self, run):
        if self.empty is None:  # the negative is then the empty prompt itself, and nothing is perpendicular to avoid
            return {}
        empty_of = run.denoiser_of(self.empty)

        def stage(p):
            empty = empty_of(p.x, p.sigma)
            if empty is None:
                return p
            empty = empty.to(p.cond.dtype)
            return replace(p, cond=perpendicular_negative(p.cond, p.uncond, empty, self.neg_scale), uncond=empty)

        return {Phase.PREDICTIONS: stage}
