"""Tangential damping: the unconditional prediction loses what does not point along the conditional one."""

from dataclasses import replace

import torch

from ..frozen import frozen
from ..tensors import dot, expand, ratio
from . import order
from .base import Method, Phase


def across(a, difference, share):
    """The part of a across the first right-singular vector of the rows [a; b = a + share * difference], over share.

    The vector is cos * a + sin * b by the angle of the 2 x 2 Gram matrix's first eigenvector. In the plane of a and
    b the part is sin * (<d, v> a - <a, v> d) / |v|^2, of the size of the difference d: no digits are lost where a and b
    are nearly one. share: [B].
    """
    b = a + expand(share, a) * difference
    angle = 0.5 * torch.atan2(2 * dot(a, b), -share * dot(difference, a + b))
    v = expand(angle.cos(), a) * a + expand(angle.sin(), a) * b
    size = ratio(angle.sin(), dot(v, v))
    return expand(size * dot(difference, v), a) * a - expand(size * dot(a, v), a) * difference


@frozen
class Tcfg(Method):
    name = "tcfg"
    title = "Tangential damping (TCFG)"
    doc = "Drops the part of the negative that has nothing to do with the prompt: cleaner shapes at the same scale."
    source = "Kwon et al. 2025, arXiv:2503.18137; on the score"
    rank = order.TANGENTIAL

    def start(self, run):
        def stage(p):
            # the score is -eps / sigma; alpha * denoised - x is -sigma * eps, and any multiple of it does
            alpha = run.path.alpha(p.sigma).to(p.x)
            damped = p.uncond - across(expand(alpha, p.x) * p.uncond - p.x, p.difference, alpha)
            # at pure noise (alpha 0) the two scores are one and nothing is to be damped
            return replace(p, uncond=torch.where(expand(alpha, p.x) > 0, damped, p.uncond))

        return {Phase.PREDICTIONS: stage}
