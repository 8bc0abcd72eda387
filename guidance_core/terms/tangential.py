"""Tangential amplifying guidance: each step goes further across, and no further in or out."""

from ..frozen import frozen
from ..params import number
from ..tensors import project
from .history import HistoryTerm


@frozen
class TangentialGuidance(HistoryTerm):
    """D' = D + scale * (the part of D across x), scale = eta - 1 (arXiv:2510.04533, algorithm 1).

    The paper multiplies by eta the part of a sampler's step that is perpendicular to x. Such a step is a x + b D, and
    of x nothing is perpendicular to x: on every path it is the step with that part of D multiplied. It looks at one
    call alone and keeps nothing. The paper's other form, for CFG (its eq. 26), is not this one.
    """

    name = "tag"
    title = "Tangential amplifying guidance (TAG)"
    doc = "Takes the part of each step further that changes the picture and not its strength: clearer shapes."
    source = "Cho et al. 2025, arXiv:2510.04533, algorithm 1"

    scale: float = number(
        0.15, -1.0, 10.0, 0.01, "How much further across: 0 is off, 0.05 to 0.15 is usual, 0.3 distorts."
    )

    def direction(self, run):
        return lambda denoised, x, sigma: denoised - project(denoised, x)
