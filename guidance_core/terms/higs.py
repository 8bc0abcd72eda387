"""History-guided sampling: the detail in which a prediction differs from the average of earlier ones, made stronger."""

import math

import torch
from torch import Tensor

from ..errors import GuidanceError
from ..frozen import frozen
from ..params import number
from ..tensors import expand, project
from .history import EarlierSteps, HistoryTerm

SHARPNESS = 50.0  # of the edge between what is left out and what is kept, lambda


def cosines(n: int, like: Tensor) -> Tensor:
    """The orthonormal discrete cosine transform (DCT-II) of n values as a matrix [n, n], lowest frequency first."""
    place = torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi / n * (place + 0.5) * place[:, None]) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like)


def high_frequencies(a: Tensor, cutoff: float) -> Tensor:
    """a [B, C, (T,) H, W] without its low frequencies, frame by frame; of [B, C, L] along L.

    Each coefficient of the cosine transform is multiplied by sigmoid(50 (R - cutoff)), R = the length of its
    frequencies in cycles, from 0 to 1 along each axis.
    """
    axes = range(max(2, a.ndim - 2), a.ndim)
    transforms = {axis: cosines(a.shape[axis], a) for axis in axes}
    squared = torch.zeros((), dtype=a.dtype, device=a.device)
    for axis, matrix in transforms.items():
        a = torch.movedim(torch.movedim(a, axis, -1) @ matrix.mT, -1, axis)
        shares = torch.arange(a.shape[axis], dtype=a.dtype, device=a.device) / a.shape[axis]
        squared = squared + shares.square().reshape(-1, *[1] * (a.ndim - 1 - axis))
    a = a * torch.sigmoid(SHARPNESS * (squared.sqrt() - cutoff))
    for axis, matrix in transforms.items():
        a = torch.movedim(torch.movedim(a, axis, -1) @ matrix, -1, axis)
    return a


@frozen
class Higs(HistoryTerm):
    """D' = D + scale * sqrt((t - t_min) / (t_max - t_min)) * high frequencies of d, for t_min < t <= t_max.

    d = D - g, of which the part parallel to D is multiplied by eta; g <- memory * g + (1 - memory) * D from g = 0, and
    nothing at the first step (arXiv:2509.22300, eq. 6 and 8, algorithms 2 and 3). D is denoised, guided but for this.
    t is the share of noise, sigma / (alpha + sigma): the level itself on the flow path. For other models the paper does
    not say how it is measured; this is the flow sample's of the same log-SNR. Written after two accounts of these
    equations that agree, not after the paper's own text.
    """

    name = "higs"
    title = "History-guided sampling (HiGS)"
    doc = "Adds the detail that is new against earlier steps, colours and large shapes left alone: crisper pictures."
    source = "Sadat et al. 2025, arXiv:2509.22300"

    scale: float = number(1.75, -10.0, 10.0, 0.05, "How much of the new detail is added: 0 is off, 1 to 2.5 is usual.")
    memory: float = number(
        0.25, 0.0, 0.99, 0.05, "How slowly earlier steps are forgotten: 0 looks back one step.", advanced=True
    )
    eta: float = number(
        0.0, 0.0, 1.0, 0.05, "Share of the part that adds contrast and saturation; 1 keeps it all.", advanced=True
    )
    t_min: float = number(
        0.4, 0.0, 1.0, 0.01, "Share of noise at which it ends: 0 is the clean picture.", advanced=True
    )
    t_max: float = number(1.0, 0.0, 1.0, 0.01, "Share of noise from which on it acts: 1 is pure noise.", advanced=True)
    cutoff: float = number(
        0.05, 0.0, 2.0, 0.01, "What counts as detail: frequencies above this; 0 takes nearly all.", advanced=True
    )

    def __post_init__(self):
        super().__post_init__()
        if self.t_min >= self.t_max:
            raise GuidanceError(
                f"t_min must be below t_max, got {self.t_min:g} and {self.t_max:g}: it ends at t_min, nearer to clean."
            )

    def window(self, t: Tensor) -> Tensor:
        """The share of the scale at a share of noise, both [B]."""
        rise = ((t - self.t_min) / (self.t_max - self.t_min)).clamp(min=0).sqrt()
        return torch.where(t <= self.t_max + 1e-6, rise, torch.zeros_like(rise))

    def direction(self, run):
        def take(average, denoised):
            newest = (1 - self.memory) * denoised
            return newest if average is None else self.memory * average + newest

        earlier = EarlierSteps(run, take)

        def change(denoised, x, sigma):
            average = earlier(denoised, float(sigma[0]))
            window = self.window(sigma / (run.path.alpha(sigma) + sigma))
            if average is None or not bool(window.any()):
                return None
            new = denoised - average
            new = new + (self.eta - 1) * project(new, denoised)
            return expand(window, x) * high_frequencies(new, self.cutoff)

        return change
