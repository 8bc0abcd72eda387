"""Noise schedules: betas -> training sigmas, and the falling sigmas that a sampler visits."""

import inspect
import math
from numbers import Integral

import torch
from torch import Tensor

from .errors import GuidanceError, shortened
from .params import check_known, is_number

MAX_STEPS = 1_000_000


def _linear(n: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """DDPM, arXiv:2006.11239."""
    return torch.linspace(start, end, n, dtype=torch.float64)


def _scaled_linear(n: int, start: float = 0.00085, end: float = 0.012) -> Tensor:
    """Stable Diffusion: linear in sqrt(beta)."""
    return torch.linspace(start**0.5, end**0.5, n, dtype=torch.float64) ** 2


def _cosine(n: int, offset: float = 0.008, max_beta: float = 0.999) -> Tensor:
    """Improved DDPM, arXiv:2102.09672: abar(t) = cos^2((t + offset) / (1 + offset) * pi / 2)."""
    t = torch.arange(n + 1, dtype=torch.float64) / n
    abar = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - abar[1:] / abar[:-1]).clamp(max=max_beta)


BETAS = {"linear": _linear, "scaled_linear": _scaled_linear, "cosine": _cosine}


def betas(name: str, n: int = 1000, **parameters: float) -> Tensor:
    """The named beta schedule, float64 [n].

    linear and scaled_linear take `start` and `end`; cosine takes `offset` and `max_beta`.
    Raises GuidanceError for an unknown name or parameter, for n below 1, and for betas that are not in (0, 1].
    """
    check_known("beta schedule", name, BETAS)
    _check_count("The number of training steps", n, MAX_STEPS)
    known = list(inspect.signature(BETAS[name]).parameters)[1:]
    for parameter, value in parameters.items():
        if parameter not in known:
            raise GuidanceError(f"{name} betas have no parameter '{parameter}': they take {', '.join(known)}.")
        _check_number(parameter, value)
    return _checked_betas(BETAS[name](n, **parameters))


def _check_count(what: str, value: int, most: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or not 1 <= value <= most:
        raise GuidanceError(f"{what} must be a whole number between 1 and {most}, got {shortened(repr(value))}.")


def _check_number(what: str, value: float) -> None:
    if not (is_number(value) and abs(value) <= 1e6):
        raise GuidanceError(f"{what} must be a number between -1000000 and 1000000, got {shortened(repr(value))}.")


def _checked_betas(b: Tensor) -> Tensor:
    wrong = b[~((b > 0) & (b <= 1))]
    if len(wrong):
        raise GuidanceError(f"Betas must be above 0 and at most 1, got {float(wrong[0]):.6g}.")
    if len(b) > 1 and bool((b[:-1] == 1).any()):
        raise GuidanceError("Only the last beta may be 1: after it nothing is left but noise.")
    return b


def zero_terminal_snr(b: Tensor) -> Tensor:
    """Rescale betas, two at least, so that the last step is pure noise (arXiv:2305.08891, algorithm 1)."""
    if len(b) < 2:
        raise GuidanceError(f"A zero terminal SNR needs at least 2 training steps, got {len(b)}.")
    root = (1 - _checked_betas(b.double())).cumprod(0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    abar = root**2
    return 1 - torch.cat([abar[:1], abar[1:] / abar[:-1]])


def sigmas_from_betas(b: Tensor, min_abar: float = 4.8973451890853435e-08) -> Tensor:
    """VE noise levels sqrt((1 - abar) / abar), float64 [n], rising.

    A terminal SNR of zero has no finite VE sigma; abar is `min_abar` there (sigma about 4519), the value that ComfyUI
    uses, so that such a model runs with the same levels in both. Where the step before is noisier than that, it is a
    quarter of that step's (twice its sigma), so that the levels rise. Raises GuidanceError where they cannot.
    """
    abar = (1 - _checked_betas(b.double())).cumprod(0)
    if abar[-1] == 0:
        abar[-1] = min(min_abar, float(abar[-2]) / 4)
    sigmas = ((1 - abar) / abar).sqrt()
    if not (sigmas[0] > 0 and bool((sigmas.diff() > 0).all()) and bool(sigmas.isfinite().all())):
        raise GuidanceError(
            "These betas give no rising noise levels: they are too small, or too large for so many steps."
        )
    return sigmas


def _visit(sigmas: Tensor, indices: Tensor) -> Tensor:
    return torch.cat([sigmas[indices], sigmas.new_zeros(1)])


def leading(sigmas: Tensor, steps: int) -> Tensor:
    """Every (n // steps)-th training level from index 0, falling, then 0: [steps + 1] (DDPM and DDIM's spacing)."""
    _check_count("The number of sampling steps", steps, len(sigmas))
    return _visit(sigmas, torch.arange(steps).flip(0) * (len(sigmas) // steps))


def trailing(sigmas: Tensor, steps: int) -> Tensor:
    """Evenly spaced training levels that begin at the noisiest, falling, then 0: [steps + 1] (arXiv:2305.08891)."""
    _check_count("The number of sampling steps", steps, len(sigmas))
    n = len(sigmas)
    return _visit(sigmas, (n - torch.arange(steps, dtype=torch.float64) * n / steps).round().long() - 1)


def karras(sigma_min: float, sigma_max: float, steps: int, rho: float = 7.0) -> Tensor:
    """EDM's spacing (arXiv:2206.00364, eq. 5), falling, then 0: float64 [steps + 1]."""
    _check_count("The number of sampling steps", steps, MAX_STEPS)
    for name, value in (("sigma_min", sigma_min), ("sigma_max", sigma_max), ("rho", rho)):
        _check_number(name, value)
    if not 0 < sigma_min < sigma_max:
        raise GuidanceError(f"karras needs 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}.")
    if not 0.1 <= rho <= 100:
        raise GuidanceError(f"karras needs rho between 0.1 and 100, got {rho}.")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _falling(torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)]))


def flow_shift(steps: int, shift: float = 3.0) -> Tensor:
    """Flow times shift t / (1 + (shift - 1) t), t from 1 to 0 evenly: float64 [steps + 1] (SD3, arXiv:2403.03206)."""
    _check_count("The number of sampling steps", steps, MAX_STEPS)
    _check_number("shift", shift)
    if shift <= 0:
        raise GuidanceError(f"flow_shift needs shift > 0, got {shift}.")
    t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return _falling(shift * t / (1 + (shift - 1) * t))


def _falling(sigmas: Tensor) -> Tensor:
    if not (math.isfinite(sigmas[0]) and bool((sigmas[:-1] > sigmas[1:]).all())):
        raise GuidanceError("These numbers give noise levels that are too near to each other: take fewer steps.")
    return sigmas
