"""Momentum of guidance over the steps of a run."""

from ..frozen import frozen
from ..params import number
from . import order
from .base import Decision, Method, Phase


def moving_difference(momentum):
    """A function that adds momentum times its last result to each difference: d_t = d + momentum * d_(t-1)."""
    last = None

    def moving(difference):
        nonlocal last
        last = difference if last is None else difference + momentum * last
        return last

    return moving


@frozen
class Momentum(Method):
    name = "momentum"
    title = "Momentum"
    doc = "Weighs in what guidance did at earlier steps: below 0 it does not repeat itself, above 0 it insists."
    source = "Sadat et al. 2024, arXiv:2410.02416, section 4 (alone, without projection)"
    rank = order.MOMENTUM
    reads_level = False
    decides = frozenset({Decision.MOMENTUM})
    momentum: float = number(-0.5, -0.95, 0.95, 0.05, "Weight of earlier steps; 0 is plain guidance.")

    def start(self, run):
        moving = moving_difference(self.momentum)
        return {Phase.DIFFERENCE: lambda p: p.with_difference(moving(p.difference))}
