"""Calibration: the temperature at which held-out answers are as sure as they are right."""

import math

from torch import Tensor

from ..classifier.heads import Head

LOWEST, HIGHEST = 0.25, 4.0
SPREAD = 0.5
"""Standard deviation of log(temperature) before anything is measured: without it, a handful of answers that are all
right would ask for a temperature of 0, and a bin in which nothing can be known for any."""


def fit_temperature(logits: Tensor, y: Tensor, head: Head) -> float:
    """The likeliest temperature in [LOWEST, HIGHEST], given held-out logits [N, K] (arXiv:1706.04599) and SPREAD.

    y: what the head's loss takes. Found by golden-section search.
    """

    def loss(log_temperature: float) -> float:
        answers = float(head.loss(logits / math.exp(log_temperature), y).cpu().double().sum())
        return answers + 0.5 * (log_temperature / SPREAD) ** 2

    share = (math.sqrt(5) - 1) / 2
    low, high = math.log(LOWEST), math.log(HIGHEST)
    left, right = high - share * (high - low), low + share * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-4:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - share * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + share * (high - low)
            at_right = loss(right)
    return math.exp((low + high) / 2)
