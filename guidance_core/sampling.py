"""Samplers on any path: one flat generator a sampler that yields its steps, and `sample` that runs one to the end."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .denoisers import Denoiser
from .errors import GuidanceError, shortened
from .frozen import frozen
from .guiders import start
from .params import check_known
from .paths import VE, NoisePath
from .run import Run, percent_of_training
from .tensors import check_floating, check_tensor


@frozen
class Step:
    """One finished step: x went from noise level `sigma` to `sigma_next`, by way of `denoised`."""

    index: int
    sigma: float
    sigma_next: float
    x: Tensor  # after the step
    denoised: Tensor


def _levels(sigmas: Tensor, path: NoisePath) -> Iterator[tuple[int, float, float, float, float]]:
    """(step, sigma, sigma_next, alpha, alpha_next): plain numbers, whose arithmetic takes no time beside tensors'."""
    sigmas = sigmas.cpu().double()
    levels = list(zip(sigmas.tolist(), path.alpha(sigmas).tolist(), strict=True))
    for i, ((s, a), (s_next, a_next)) in enumerate(zip(levels, levels[1:], strict=False)):
        yield i, s, s_next, a, a_next


def _level(sigma: float, x: Tensor) -> Tensor:
    """A noise level as a denoiser of x gets it: half precision would blur it."""
    return torch.tensor(sigma, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)


def _denoise(denoiser: Denoiser, x: Tensor, sigma: float) -> Tensor:
    with torch.no_grad():  # guidance turns it on for its own gradients
        return denoiser(x, _level(sigma, x).expand(x.shape[0])).detach()


def _watched(denoiser: Denoiser, run: Run) -> Denoiser:
    """The denoiser of a run; raises GuidanceError where its result is not like x or, naming the step, not finite."""

    def watched(x: Tensor, sigma: Tensor) -> Tensor:
        denoised = denoiser(x, sigma)
        if not (isinstance(denoised, Tensor) and denoised.shape == x.shape):
            given = list(denoised.shape) if isinstance(denoised, Tensor) else type(denoised).__name__
            raise GuidanceError(
                f"A denoiser must answer with a tensor like x, {list(x.shape)}, and this one gave {given}: it is "
                f"called as denoiser(x [B, C, ...], sigma [B]) and returns the clean data that it expects."
            )
        if math.isfinite(denoised.sum()):  # then every number in it is; otherwise the sum itself may be too large
            return denoised
        finite = denoised.isfinite().flatten(1).all(1).tolist()
        if not all(finite):
            level = float(sigma[0])
            raise GuidanceError(
                f"The prediction is not a finite number at step {int(run.step(level)) + 1} of {len(run.levels)} "
                f"(sigma {level:.4g}), sample {finite.index(False) + 1} of {len(finite)}: run the model in another "
                f"precision, or lower the scales of guidance."
            )
        return denoised

    return watched


def _noise_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator is not None else x.device
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(x.device)


def ddpm(denoiser, x, sigmas, path=VE, generator=None, large_variance: bool = False) -> Iterator[Step]:
    """Ancestral sampling with the posterior mean (arXiv:2006.11239, eq. 6-7), in (alpha, sigma) form.

    The variance is the posterior's (fixed small), or beta with large_variance, which is beta of the VP frame on every
    path; the last step returns the mean.
    """
    for i, s, s_next, a, a_next in _levels(sigmas, path):
        denoised = _denoise(denoiser, x, s)
        ratio = a / a_next
        beta = s**2 - ratio**2 * s_next**2
        x = ratio * s_next**2 / s**2 * x + a_next * beta / s**2 * denoised
        if s_next > 0:
            large = beta * (a_next**2 + s_next**2) / (a**2 + s**2)
            variance = large if large_variance else beta * s_next**2 / s**2
            x = x + math.sqrt(variance) * _noise_like(x, generator)
        yield Step(i, s, s_next, x, denoised)


def ddim(denoiser, x, sigmas, path=VE, generator=None, eta: float = 0.0) -> Iterator[Step]:
    """DDIM (arXiv:2010.02502, eq. 12): eta 0 is deterministic, eta 1 is ddpm."""
    if not 0 <= eta <= 1:
        raise GuidanceError(f"eta must be in [0, 1], got {eta}.")
    for i, s, s_next, a, a_next in _levels(sigmas, path):
        denoised = _denoise(denoiser, x, s)
        variance = eta**2 * s_next**2 * (1 - (s_next * a) ** 2 / (a_next * s) ** 2)
        kept = math.sqrt(s_next**2 - variance) / s  # of the noise, (x - a * denoised) / s
        x = kept * x + (a_next - kept * a) * denoised
        if eta > 0 and s_next > 0:
            x = x + math.sqrt(variance) * _noise_like(x, generator)
        yield Step(i, s, s_next, x, denoised)


def euler(denoiser, x, sigmas, path=VE, generator=None) -> Iterator[Step]:
    """Euler's method on dx / dsigma (arXiv:2206.00364, algorithm 1 without the correction)."""
    for i, s, s_next, _, _ in _levels(sigmas, path):
        denoised = _denoise(denoiser, x, s)
        x = x + (s_next - s) * path.slope(x, denoised, s)
        yield Step(i, s, s_next, x, denoised)


def heun(denoiser, x, sigmas, path=VE, generator=None) -> Iterator[Step]:
    """Heun's second-order method (arXiv:2206.00364, algorithm 1); the step to 0 is Euler's."""
    for i, s, s_next, _, _ in _levels(sigmas, path):
        denoised = _denoise(denoiser, x, s)
        slope = path.slope(x, denoised, s)
        ahead = x + (s_next - s) * slope
        if s_next > 0:
            slope = (slope + path.slope(ahead, _denoise(denoiser, ahead, s_next), s_next)) / 2
            ahead = x + (s_next - s) * slope
        x = ahead
        yield Step(i, s, s_next, x, denoised)


def _half_log_snr(a: float, s: float) -> float:
    return math.log(a / s) if a > 0 and s > 0 else math.copysign(math.inf, a - s)


def dpmpp_2m(denoiser, x, sigmas, path=VE, generator=None) -> Iterator[Step]:
    """DPM-Solver++(2M) (arXiv:2211.01095, algorithm 2), in half log-SNR; the first and last steps are first order."""
    previous: tuple[Tensor, float] | None = None  # what was denoised at the last step, and its h
    for i, s, s_next, a, a_next in _levels(sigmas, path):
        denoised = _denoise(denoiser, x, s)
        h = _half_log_snr(a_next, s_next) - _half_log_snr(a, s)
        estimate = denoised
        if previous is not None and s_next > 0:
            r = previous[1] / h
            estimate = denoised + (denoised - previous[0]) / (2 * r)
        x = s_next / s * x - a_next * math.expm1(-h) * estimate
        previous = denoised, h
        yield Step(i, s, s_next, x, denoised)


SAMPLERS: dict[str, Callable[..., Iterator[Step]]] = {
    "ddpm": ddpm,
    "ddpm_large": partial(ddpm, large_variance=True),
    "ddim": ddim,
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
}


def _check_levels(levels: list[float], path: NoisePath, x: Tensor) -> None:
    """Raise GuidanceError unless they fall to 0, and all but the last are levels of the path as x's precision has them.

    The least is the smallest normal number of x's dtype or the root of that of its level's (see _level), whichever is
    greater, so that its square does not vanish; the largest likewise, so that its square does not overflow.
    """
    falling = all(math.inf > a > b for a, b in zip(levels, levels[1:], strict=False))
    if len(levels) < 2 or levels[-1] != 0 or not falling:
        raise GuidanceError(f"sigmas must fall and end at 0, got {[round(level, 4) for level in levels]}.")
    own, wide = torch.finfo(x.dtype), torch.finfo(torch.promote_types(x.dtype, torch.float32))
    least, most = max(own.tiny, math.sqrt(wide.tiny)), min(own.max, math.sqrt(wide.max))
    for level in levels[:-1]:
        if not least <= level <= most:
            raise GuidanceError(
                f"For noise in {own.dtype} every sigma but the last must be between {least:.3g} and {most:.3g}, "
                f"got {level:.9g}."
            )
        path.check(float(_level(level, x)))


def _asks_for_gradient(given: Tensor) -> bool:
    """Whether autograd follows a tensor, backward or forward."""
    return given.requires_grad and torch.is_grad_enabled() or forward_ad.unpack_dual(given).tangent is not None


def steps(
    denoiser: Denoiser,
    noise: Tensor,
    sigmas: Tensor,
    sampler: str = "ddim",
    generator: torch.Generator | None = None,
    path: NoisePath = VE,
    training_sigmas: Tensor | None = None,
    seed: int = 0,
    **options,
) -> Iterator[Step]:
    """As `sample`, yielding each Step as it is done, so that the caller can draw progress or stop."""
    check_known("sampler", sampler, SAMPLERS)
    check_floating("noise", noise)
    check_tensor("sigmas", sigmas)
    if not callable(denoiser):
        raise GuidanceError(f"denoiser must be callable, (x, sigma) -> denoised, got {shortened(repr(denoiser))}.")
    levels = sigmas.tolist()
    percent = percent_of_training(training_sigmas) if training_sigmas is not None else None
    run = Run(path, tuple(levels), seed=seed, percent=percent)
    _check_levels(levels, path, noise)
    if noise.ndim < 2 or not len(noise):
        raise GuidanceError(f"noise must be one sample or more, [B, C, ...], got the shape {list(noise.shape)}.")
    for name, given in (("noise requires", noise), ("sigmas require", sigmas)):
        if _asks_for_gradient(given):
            raise GuidanceError(
                f"{name} a gradient, and sampling gives none: each step would add a part of it only. Pass "
                f"{name.split()[0]}.detach(), or write the sampler's steps out with autograd on."
            )
    x = noise * sigmas[0].to(noise)
    yield from SAMPLERS[sampler](
        _watched(start(denoiser, run), run), x, sigmas, path=path, generator=generator, **options
    )


def sample(
    denoiser: Denoiser,
    noise: Tensor,
    sigmas: Tensor,
    sampler: str = "ddim",
    generator: torch.Generator | None = None,
    callback: Callable[[Step], None] | None = None,
    path: NoisePath = VE,
    **options,
) -> Tensor:
    """Sample from noise to clean data.

    denoiser: called under torch.no_grad; what needs a gradient inside it turns autograd on itself (torch.enable_grad).
    No gradient comes out: the result is detached, and noise or sigmas that ask for one are refused.
    noise: unit normal [B, C, ...]. sigmas [n + 1]: falling on the path, last 0. generator: for samplers that add noise.
    callback: called with every Step. options: the sampler's own (ddim: eta), `training_sigmas` for schedules on the
    percent axis, `seed` for methods that draw noise of their own.
    Every prediction is looked at, so that each call of the denoiser waits for the device once.
    Raises GuidanceError for an unknown sampler, sigmas that do not fall to 0 or that the noise's precision cannot hold,
    and predictions that are not finite.
    """
    for step in steps(denoiser, noise, sigmas, sampler, generator, path, **options):
        if callback is not None:
            callback(step)
    return step.x
