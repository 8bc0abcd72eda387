"""Networks that predict eps, v, x0 or a flow velocity, as denoisers `(x, sigma, **condition) -> denoised`."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from .tensors import expand, per_sample

Network = Callable[..., Tensor]


class Denoiser(Protocol):
    """(x [B, C, ...], sigma [B], **condition) -> denoised, like x."""

    def __call__(self, x: Tensor, sigma: Tensor, /, *args: Any, **condition: Any) -> Tensor: ...


def _discrete(
    net: Network, sigmas: Tensor, to_denoised: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
) -> Denoiser:
    """to_denoised: (x, x in the VP frame, the network's output, sigma, sqrt(1 + sigma^2)) -> denoised."""
    levels = sigmas.double().log()
    between = (levels[1:] + levels[:-1]) / 2  # above it the next level is nearer, in log sigma

    def denoiser(x: Tensor, sigma: Tensor | float, **condition) -> Tensor:
        sigma = per_sample(sigma, x)
        level = sigma.to(torch.promote_types(sigma.dtype, torch.float32))  # half precision does not hold its square
        index = torch.bucketize(level.log(), between.to(level))
        length = expand((1 + level**2).sqrt(), x)
        unit = x / length
        return to_denoised(x, unit, net(unit, index, **condition), expand(sigma, x), length)

    return denoiser


def eps_denoiser(net: Network, sigmas: Tensor) -> Denoiser:
    """A denoiser on the VE path from a noise-predicting network.

    net(x_vp [B, C, ...], t_index long [B], **condition) -> eps; sigmas [n] are its training levels, rising.
    x_vp = x / sqrt(1 + sigma^2); the index is that of the nearest level.
    """
    return _discrete(net, sigmas, lambda x, unit, eps, sigma, length: x - sigma * eps)


def v_denoiser(net: Network, sigmas: Tensor) -> Denoiser:
    """As eps_denoiser, for v = alpha * eps - sigma * x0 in the VP frame (arXiv:2202.00512)."""
    return _discrete(net, sigmas, lambda x, unit, v, sigma, length: (unit - sigma * v) / length)


def x0_denoiser(net: Network, sigmas: Tensor) -> Denoiser:
    """As eps_denoiser, for a network that predicts the clean data itself."""
    return _discrete(net, sigmas, lambda x, unit, x0, sigma, length: x0)


def flow_denoiser(net: Network) -> Denoiser:
    """A denoiser on the flow path. net(x, t [B], **condition) -> velocity (noise - x0), t = sigma in (0, 1]."""

    def denoiser(x: Tensor, sigma: Tensor | float, **condition) -> Tensor:
        sigma = per_sample(sigma, x)
        return x - expand(sigma, x) * net(x, sigma, **condition)

    return denoiser
