"""Tangential damping: the unconditional prediction loses what does not point along the conditional one."""

from dataclasses import dataclass, replace

import torch

from ..tensors import dot, expand, project
from .base import Method, Phase


def leading_direction(a, b):
    """The first right-singular vector of the rows [a; b] of each sample, up to its length; by the 2 x 2 Gram matrix."""
    aa, ab, bb = dot(a, a), dot(a, b), dot(b, b)
    angle = 0.5 * torch.atan2(2 * ab, aa - bb)  # of the Gram matrix's first eigenvector
    return expand(angle.cos(), a) * a + expand(angle.sin(), a) * b


@dataclass(frozen=True)
class Tcfg(Method):
    name = "tcfg"
    title = "Tangential damping (TCFG)"
    doc = "Drops the part of the negative that has nothing to do with the prompt: cleaner shapes at the same scale."
    source = "Kwon et al. 2025, arXiv:2503.18137; on the score"
    rank = 95

    def start(self, run):
        def stage(p):
            # the score is -eps / sigma; alpha * denoised - x is -sigma * eps, and any multiple of it does
            alpha = expand(run.path.alpha(p.sigma), p.x)
            cond, uncond = alpha * p.cond - p.x, alpha * p.uncond - p.x
            damped = project(uncond, leading_direction(uncond, cond))
            # at pure noise (alpha 0) the two scores are one and nothing is to be damped
            moved = torch.where(alpha > 0, p.uncond + (damped - uncond) / torch.where(alpha > 0, alpha, 1), p.uncond)
            return replace(p, uncond=moved)

        return {Phase.PREDICTIONS: stage}
