"""Seed variance: the prompt is a little another one for each seed, until the picture has taken shape."""

import math

import torch

from ..frozen import frozen
from ..params import number
from ..scale import ScaleSchedule
from .base import Variety, moments

BEGINNING = ScaleSchedule("interval", 0.0, 0.2)
"""The first fifth of the steps."""


@frozen
class SeedVariance(Variety):
    """y' = y + scale * schedule * std(y) u on a random share of y's values, u uniform in [-1, 1].

    Which values, and u, are drawn for each sample, once for the run. The software that it comes from has no paper;
    there the noise is in absolute units, of which a tenth to ten deviations are advised. It draws single values, and
    not whole tokens, as this does.
    """

    name = "seed_variance"
    title = "Seed variance"
    doc = (
        "Makes the prompt a little another one for each picture at the first steps: for models whose seeds look alike."
    )
    source = "SeedVarianceEnhancer, a node pack by ChangeTheConstants (no paper)"

    scale: float = number(
        1.0, 0.0, 100.0, 0.05, "Size of the noise in deviations of the prompt: 0 is off, 0.5 to 2 is usual."
    )
    schedule: ScaleSchedule = BEGINNING
    share: float = number(0.5, 0.0, 1.0, 0.05, "Share of the prompt's values that are changed: 1 is all of them.")

    def noised(self, condition, there, level, strength, draw):
        uniform = torch.erf(draw(0) / math.sqrt(2))  # in [-1, 1], as the integral of the normal density is
        chosen = torch.erf(draw(1) / math.sqrt(2)) < 2 * self.share - 1
        _, std = moments(condition, there)
        return condition + chosen * (self.scale * strength * std * uniform)
