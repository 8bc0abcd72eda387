"""Networks that predict eps, v, x0 or a flow velocity, as denoisers `(x, sigma, **condition) -> denoised`."""

from collections.abc import Callable

from torch import Tensor

from .paths import VE
from .tensors import expand, per_sample

Network = Callable[..., Tensor]
Denoiser = Callable[..., Tensor]


def timestep_index(sigma: Tensor, sigmas: Tensor) -> Tensor:
    """The training step whose level is nearest to sigma in log sigma, long [B]. sigmas [n] rises."""
    distance = sigma.double().log()[:, None] - sigmas.to(sigma.device).double().log()[None]
    return distance.abs().argmin(1)


def _discrete(net: Network, sigmas: Tensor, to_denoised: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Denoiser:
    def denoiser(x: Tensor, sigma: Tensor | float, **condition) -> Tensor:
        sigma = per_sample(sigma, x)
        output = net(VE.unit(x, sigma), timestep_index(sigma, sigmas), **condition)
        return to_denoised(x, output, expand(sigma, x))

    return denoiser


def eps_denoiser(net: Network, sigmas: Tensor) -> Denoiser:
    """A denoiser on the VE path from a noise-predicting network.

    net(x_vp [B, C, ...], t_index long [B], **condition) -> eps; sigmas [n] are its training levels, rising.
    x_vp = x / sqrt(1 + sigma^2); the index is that of the nearest level.
    """
    return _discrete(net, sigmas, lambda x, eps, sigma: x - sigma * eps)


def v_denoiser(net: Network, sigmas: Tensor) -> Denoiser:
    """As eps_denoiser, for v = alpha * eps - sigma * x0 in the VP frame (arXiv:2202.00512)."""
    return _discrete(net, sigmas, lambda x, v, sigma: x / (1 + sigma**2) - v * sigma / (1 + sigma**2).sqrt())


def x0_denoiser(net: Network, sigmas: Tensor) -> Denoiser:
    """As eps_denoiser, for a network that predicts the clean data itself."""
    return _discrete(net, sigmas, lambda x, x0, sigma: x0)


def flow_denoiser(net: Network) -> Denoiser:
    """A denoiser on the flow path. net(x, t [B], **condition) -> velocity (noise - x0), t = sigma in (0, 1]."""

    def denoiser(x: Tensor, sigma: Tensor | float, **condition) -> Tensor:
        sigma = per_sample(sigma, x)
        return x - expand(sigma, x) * net(x, sigma, **condition)

    return denoiser
