"""Condition-annealed sampling: the condition begins as noise, and comes back while the picture takes shape."""

import math

from ..errors import GuidanceError
from ..frozen import frozen
from ..params import number
from ..scale import ScaleSchedule
from ..shapes import Keyframes
from ..tensors import draw_of, ratio
from .base import Variety, moments

ANNEALED = ScaleSchedule(Keyframes("0:1, 0.1:1, 0.4:0", "linear"))
"""1 - gamma with tau1 = 0.6 and tau2 = 0.9, of steps: all noise for a tenth of the run, none from 0.4 of it on."""


@frozen
class Cads(Variety):
    """y' = sqrt(gamma) y + scale sqrt(1 - gamma) n, gamma = 1 - schedule, new noise at each level (arXiv:2310.17347).

    Then, in the share psi, with the mean and the deviation of y (its eq. 2 to 4), of each sample by itself. The
    schedule is the paper's on the axis of steps; its other choice, a guidance scale that is annealed as well, is a
    schedule of CFG here. 0 is off, for which psi does not matter.
    """

    name = "cads"
    title = "Condition annealing (CADS)"
    doc = "Lets the prompt in by and by, so that pictures of other seeds are composed in other ways."
    source = "Sadat et al. 2023, arXiv:2310.17347"

    scale: float = number(
        0.25, 0.0, 10.0, 0.01, "Size of the noise: 0 is off, 0.1 to 0.3 is usual; higher is more varied and less true."
    )
    schedule: ScaleSchedule = ANNEALED
    psi: float = number(
        1.0, 0.0, 1.0, 0.05, "Share that keeps the prompt's own mean and spread: 1 is safe, 0 the most varied."
    )

    def noised(self, condition, there, level, strength, draw):
        if not 0 <= strength <= 1:
            raise GuidanceError(
                f"cads needs a schedule in [0, 1], the share of the condition that gives way to noise, got "
                f"{strength:g}: set its values between 0 and 1."
            )
        noisy = math.sqrt(1 - strength) * condition + self.scale * math.sqrt(strength) * draw(draw_of(level))
        (mean, std), (noisy_mean, noisy_std) = moments(condition, there), moments(noisy, there)
        kept = ratio(std, noisy_std) * (noisy - noisy_mean) + mean
        return self.psi * kept + (1 - self.psi) * noisy
