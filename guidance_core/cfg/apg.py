"""Adaptive projected guidance: high scales without burnt colours."""

from ..frozen import frozen
from ..params import number
from ..tensors import expand, norm, project
from . import order
from .base import Decision, Method, Phase
from .momentum import moving_difference


def projected(difference, cond, eta, norm_threshold):
    """The difference capped in norm (0: no cap), with its part parallel to cond times eta (arXiv:2410.02416)."""
    if norm_threshold > 0:
        size = norm(difference)
        difference = difference * expand((norm_threshold / size.clamp(min=norm_threshold)), difference)
    parallel = project(difference, cond)
    return difference + (eta - 1) * parallel


@frozen
class Apg(Method):
    name = "apg"
    title = "Adaptive projected guidance (APG)"
    doc = "Keeps the detail that a high scale adds and leaves out the burnt colours and the contrast."
    source = "Sadat et al. 2024, arXiv:2410.02416, algorithm 1"
    rank = order.PROJECTED
    reads_level = False
    decides = frozenset({Decision.MOMENTUM})
    eta: float = number(0.0, 0.0, 1.0, 0.05, "Share of the part that adds contrast and saturation; 1 keeps it all.")
    norm_threshold: float = number(
        15.0,
        0.0,
        1000.0,
        0.5,
        "Limit on the size of guidance at each step: lower is calmer, 0 is no limit. 15 suits SDXL, 7.5 SD 2.",
    )
    momentum: float = number(
        -0.5, -0.95, 0.95, 0.05, "Weight of earlier steps; below 0 holds back what they did already.", advanced=True
    )

    def start(self, run):
        moving = moving_difference(self.momentum)

        def stage(p):
            return p.with_difference(projected(moving(p.difference), p.cond, self.eta, self.norm_threshold))

        return {Phase.DIFFERENCE: stage}
