"""Noise paths: how `x = alpha * x0 + sigma * noise` mixes data and noise on VE, VP and flow."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from .errors import GuidanceError
from .frozen import frozen
from .tensors import expand


def _level(value: Tensor | float) -> Tensor:
    """A noise level as a floating tensor; a plain number in double precision."""
    return value if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64)


@frozen
class NoisePath(ABC):
    """A family of noise levels, named by sigma; two paths at one log-SNR hold the same information."""

    name: str
    domain: ClassVar[str]  # of sigma, in words

    @abstractmethod
    def holds(self, sigma: float) -> bool:
        """Whether sigma is a noise level of this path."""

    def check(self, sigma: float) -> None:
        """Raise GuidanceError unless sigma is a noise level of this path."""
        if not self.holds(sigma):
            raise GuidanceError(f"On the {self.name} path sigma must be {self.domain}, got {sigma:.9g}.")

    @abstractmethod
    def alpha(self, sigma: Tensor | float) -> Tensor:
        """Signal level at sigma."""

    @abstractmethod
    def alpha_slope(self, sigma: Tensor | float) -> Tensor:
        """d alpha / d sigma."""

    @abstractmethod
    def sigma_at(self, log_snr: Tensor | float) -> Tensor:
        """The sigma whose log-SNR is given."""

    def log_snr(self, sigma: Tensor | float) -> Tensor:
        """2 log(alpha / sigma)."""
        return 2 * (self.alpha(sigma).log() - _level(sigma).log())

    def unit(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """x / sqrt(alpha^2 + sigma^2): the VP frame, in which noise-aware classifiers see x. Differentiable in x."""
        return x / expand(torch.hypot(self.alpha(sigma), _level(sigma)), x)

    def eps(self, x: Tensor, denoised: Tensor, sigma: Tensor | float) -> Tensor:
        """The noise implied by a denoised prediction: (x - alpha * denoised) / sigma."""
        return (x - expand(self.alpha(sigma), x) * denoised) / expand(sigma, x)

    def slope(self, x: Tensor, denoised: Tensor, sigma: Tensor | float) -> Tensor:
        """dx / dsigma of the probability-flow ODE: alpha' * denoised + eps."""
        return expand(self.alpha_slope(sigma), x) * denoised + self.eps(x, denoised, sigma)


class _VE(NoisePath):
    domain = "above 0 and finite"

    def holds(self, sigma):
        return 0 < sigma < math.inf

    def alpha(self, sigma):
        return torch.ones_like(_level(sigma))

    def alpha_slope(self, sigma):
        return torch.zeros_like(_level(sigma))

    def sigma_at(self, log_snr):
        return (-0.5 * _level(log_snr)).exp()

    def slope(self, x, denoised, sigma):
        return (x - denoised) / expand(sigma, x)


class _VP(NoisePath):
    domain = "above 0 and below 1"

    def holds(self, sigma):
        return 0 < sigma < 1

    def alpha(self, sigma):
        return (1 - _level(sigma) ** 2).clamp(min=0).sqrt()

    def alpha_slope(self, sigma):
        return -_level(sigma) / self.alpha(sigma)

    def sigma_at(self, log_snr):
        return torch.sigmoid(-_level(log_snr)).sqrt()


class _Flow(NoisePath):
    domain = "above 0 and at most 1"

    def holds(self, sigma):
        return 0 < sigma <= 1

    def alpha(self, sigma):
        return 1 - _level(sigma)

    def alpha_slope(self, sigma):
        return -torch.ones_like(_level(sigma))

    def sigma_at(self, log_snr):
        return torch.sigmoid(-0.5 * _level(log_snr))

    def slope(self, x, denoised, sigma):
        return (x - denoised) / expand(sigma, x)


VE = _VE("VE")
"""alpha = 1, sigma > 0: ComfyUI's x for every EPS, V_PREDICTION and EDM model."""
VP = _VP("VP")
"""alpha^2 + sigma^2 = 1, sigma in (0, 1): the frame of the DDPM papers, sigma = sqrt(1 - abar)."""
FLOW = _Flow("flow")
"""alpha = 1 - sigma, sigma = t in (0, 1]: SD3, Flux, Wan and other rectified flows."""


def change_frame(x: Tensor, sigma: Tensor, source: NoisePath, target: NoisePath) -> tuple[Tensor, Tensor]:
    """The same noisy sample on another path: (x', sigma') with equal log-SNR. Needs alpha > 0 (flow: sigma < 1)."""
    sigma = sigma.to(torch.promote_types(sigma.dtype, torch.float32))  # half precision rounds VP's levels to 1
    new_sigma = target.sigma_at(source.log_snr(sigma))
    return x * expand(new_sigma / sigma, x), new_sigma  # as alpha' / alpha, which near pure noise cancels
