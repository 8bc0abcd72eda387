"""Feedback guidance: guides a picture the more, the less it looks like what was asked for."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from ..errors import GuidanceError
from ..frozen import frozen
from ..params import number, socket, text
from ..tensors import dot, expand
from ..terms.target_text import parse_target
from . import order
from .base import Decision, Method, Phase

MAX_LOG_RATIO = 3.0  # the tracked log-ratio stays below, so that it can fall again
REFERENCE = 3.0  # the scale that a picture which stays undecided has reached at `undecided`


def feedback_scale(log_ratio, mixing, most):
    """r / (r - (1 - mixing)), r = p(condition | x) / p(condition) = exp(log_ratio), and at most `most` (> 1)."""
    if mixing == 1:
        return torch.ones_like(log_ratio)
    r = log_ratio.clamp(min=least_ratio(mixing, most)).exp()
    return r / (r - (1 - mixing))


def least_ratio(mixing, most):
    """The log-ratio at which the scale is `most`."""
    return math.log((1 - mixing) * most / (most - 1))


def step_variance(sigma, after):
    """Variance of the exact reverse step from sigma (which may be infinite) to a lower level, on the VE path."""
    return after**2 * (1 - (after / sigma) ** 2)


class TrackedRatio:
    """The log-ratio of each sample, followed over a run by the run's own predictions.

    It rises where the sample moved nearer to what the conditional prediction would have than to what the unconditional
    one would have, in units of the reverse step's variance; tempered, and with a drift towards undecided.
    """

    def __init__(self, run, mixing, undecided, decided):
        self.run, self.path, self.log_ratio, self.last = run, run.path, None, None
        levels = [self.on_ve(sigma) for sigma in run.sigmas or ()]
        falling = [(high, low) for high, low in pairwise(levels) if low < high]
        variances = [step_variance(*pair) for pair in reversed(falling)]  # the step to clean first
        self.drift = self.temperature = self.step = 0.0
        if variances and mixing < 1:
            steps = len(variances)
            self.drift = math.log((1 - mixing) * REFERENCE / (REFERENCE - 1)) / ((1 - undecided) * steps)
            decided_at = float(np.interp(decided * steps, range(steps), variances))
            self.temperature = abs(2 * decided_at / 10 * self.drift)

    def on_ve(self, sigma):
        alpha = float(self.path.alpha(sigma))
        return sigma / alpha if alpha > 0 else math.inf

    def __call__(self, p, least):
        """The log-ratio [B] at a call; it moves when the noise level has fallen since the last one."""
        sigma = self.on_ve(float(p.sigma[0]))
        if self.log_ratio is None:
            self.log_ratio = p.x.new_zeros(len(p.x))
        if self.last is not None and sigma < self.last[0] * (1 - 1e-6):
            before, x_before, cond, uncond = self.last
            keep = (sigma / before) ** 2
            moved = p.x / expand(self.path.alpha(p.sigma), p.x) - keep * x_before
            # |moved - (1 - keep) cond|^2 - |moved - (1 - keep) uncond|^2, of which high noise leaves no digits
            gap = (1 - keep) * dot(uncond - cond, 2 * moved - (1 - keep) * (cond + uncond))
            # a sampler that also calls between two steps drifts by the share of a step it moved
            drift = self.drift * (self.run.step(float(p.sigma[0]), p.step) - self.step) if self.drift else 0.0
            change = drift - self.temperature / (2 * step_variance(before, sigma)) * gap
            self.log_ratio = (self.log_ratio + change).clamp(least, MAX_LOG_RATIO)
        self.step = self.run.step(float(p.sigma[0]), p.step) if self.drift else 0.0
        if math.isfinite(sigma):
            self.last = (sigma, p.x / expand(self.path.alpha(p.sigma), p.x), p.cond, p.uncond)
        return self.log_ratio


@frozen(eq=False)
class Feedback(Method):
    name = "feedback"
    title = "Feedback"
    doc = "Guides each picture only as hard as it needs to show what was asked for; the scale is the most it may."
    source = "Koulischer et al. 2025, arXiv:2506.06085"
    rank = order.EFFECTIVE_SCALE
    decides = frozenset({Decision.SCALE})
    mixing: float = number(
        0.95, 0.01, 1.0, 0.01, "How far to trust the conditional model by itself: lower guides more, 1 never guides."
    )
    classifier: Any = socket(
        "classifier",
        "A noisy classifier that measures how much of the target is there; without it the run's predictions tell.",
    )
    target: str = text("", "What to look for with the classifier, written as for Classifier Guidance.")
    undecided: float = number(
        0.5,
        0.05,
        0.95,
        0.05,
        "Without a classifier: how much of the run is still to go when guidance sets in; higher is sooner.",
        advanced=True,
    )
    decided: float = number(
        0.35,
        0.05,
        0.95,
        0.05,
        "Without a classifier: how much of the run is still to go when guidance lets go; higher is sooner.",
        advanced=True,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.classifier is not None:
            self.wanted()
        elif self.target.strip():
            raise GuidanceError(
                f"the target '{self.target}' needs a classifier: connect one, or leave the target empty."
            )

    def wanted(self):
        """The target among the classifier's labels. Raises GuidanceError for one that it does not know."""
        return parse_target(self.target, self.classifier.labels, self.classifier.head)

    def judged(self, path):
        """(p, least) -> log p(target | x) - log p(target), every label as likely as the others beforehand."""
        target, head = self.wanted(), self.classifier.head

        def log_ratio(p, least):
            logits = self.classifier(p.x, p.sigma, path).to(p.x)
            return target.log_prob(logits, head) - target.log_prob(torch.zeros_like(logits), head)

        return log_ratio

    def uncond_at_zero(self, strength):
        return True

    def start(self, run):
        if self.classifier is not None:
            log_ratio = self.judged(run.path)
        else:
            log_ratio = TrackedRatio(run, self.mixing, self.undecided, self.decided)

        def stage(p):
            if p.scale <= 1:
                return p
            least = least_ratio(self.mixing, p.scale) if self.mixing < 1 else -math.inf
            return replace(p, scale=expand(feedback_scale(log_ratio(p, least), self.mixing, p.scale), p.x))

        return {Phase.SCALE: stage}
