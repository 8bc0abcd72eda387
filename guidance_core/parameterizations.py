"""Parameterizations: what networks predict (eps, v, velocity, x0, EDM), and the way there and back from denoised."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .errors import GuidanceError
from .frozen import frozen
from .paths import FLOW, NoisePath
from .tensors import expand


@frozen
class Parameterization(ABC):
    """A linear change of variables denoised <-> output at fixed x and sigma: output = (skip * x - denoised) / scale."""

    @abstractmethod
    def coefficients(self, sigma: Tensor, path: NoisePath) -> tuple[Tensor, Tensor]:
        """(skip, scale), each [B]: denoised = skip * x - scale * output. sigma: of single precision at least."""

    def output(self, denoised: Tensor, x: Tensor, sigma: Tensor, path: NoisePath) -> Tensor:
        """The network output that means this denoised prediction."""
        skip, scale = self._over(x, sigma, path)
        return (skip * x - denoised) / scale

    def denoised(self, output: Tensor, x: Tensor, sigma: Tensor, path: NoisePath) -> Tensor:
        """The denoised prediction that a network output means."""
        skip, scale = self._over(x, sigma, path)
        return skip * x - scale * output

    def output_change(self, change: Tensor, x: Tensor, sigma: Tensor, path: NoisePath) -> Tensor:
        """What the output changes by where the denoised prediction changes by `change`."""
        return -change / self._over(x, sigma, path)[1]

    def with_output_gained(self, denoised: Tensor, gain: Tensor, x: Tensor, sigma: Tensor, path: NoisePath) -> Tensor:
        """The denoised prediction whose output is 1 + gain times this one's.

        Of a small gain it keeps the digits that going to the output and back loses at high noise, where both are nearly
        x. gain: what broadcasts against x.
        """
        return denoised - gain * (self._over(x, sigma, path)[0] * x - denoised)

    def _over(self, x: Tensor, sigma: Tensor, path: NoisePath) -> tuple[Tensor, Tensor]:
        """The coefficients, shaped to broadcast against x."""
        level = sigma.to(torch.promote_types(sigma.dtype, torch.float32))  # half precision does not hold its square
        skip, scale = self.coefficients(level, path)
        return expand(skip, x), expand(scale, x)


class _Eps(Parameterization):
    def coefficients(self, sigma, path):
        alpha = path.alpha(sigma)
        return 1 / alpha, sigma / alpha


class _V(Parameterization):
    def coefficients(self, sigma, path):
        alpha = path.alpha(sigma)
        total = alpha**2 + sigma**2
        return alpha / total, sigma / total.sqrt()


class _Velocity(Parameterization):
    def coefficients(self, sigma, path):
        if path is not FLOW:
            raise GuidanceError(
                f"The flow velocity is defined on the flow path only, not on {path.name}: use eps, v or x0 there."
            )
        return torch.ones_like(sigma), sigma


class _X0(Parameterization):
    def coefficients(self, sigma, path):
        return torch.zeros_like(sigma), -torch.ones_like(sigma)


@frozen
class Edm(Parameterization):
    """The output F of an EDM-preconditioned network, denoised = c_skip x + c_out F (arXiv:2206.00364, table 1)."""

    sigma_data: float = 0.5

    def coefficients(self, sigma, path):
        total = sigma**2 + self.sigma_data**2
        return self.sigma_data**2 / total, -sigma * self.sigma_data / total.sqrt()


EPS = _Eps()
V = _V()
"""v = alpha_vp * eps - sigma_vp * x0, in the VP frame of the sample, whatever its path (arXiv:2202.00512)."""
VELOCITY = _Velocity()
"""noise - x0."""
X0 = _X0()


def default_parameterization(path: NoisePath) -> Parameterization:
    """eps on VE and VP, velocity on flow."""
    return VELOCITY if path is FLOW else EPS
