"""What is known of a sampling run before it starts, and where in the run a noise level lies."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import GuidanceError
from .parameterizations import Parameterization, default_parameterization
from .paths import FLOW, VE, NoisePath

AXES = ("step", "percent", "sigma", "log_snr")


PURE_NOISE = -4.5  # log-SNR below which a run begins in noise, and not in a picture, as far as can be told
NOISIEST = 0.01  # timestep percent below which it does, where that is known


def _ignore(event: object) -> None:
    pass


def _denoiser(source: object) -> Callable[[Tensor, Tensor], Tensor]:
    return (lambda x, sigma: source) if isinstance(source, Tensor) else source


@dataclass(frozen=True)
class Run:
    """A sampling run: its path, its falling sigmas (last 0; None when unknown), and what the model is.

    percent: sigma -> ComfyUI's timestep percent (0 at the noisiest training level, 1 at the cleanest); on the flow path
        1 - sigma where it is not given, which is ComfyUI's for a model without a shift.
    output: the space of the model's own output. record: called with each event worth tracing.
    denoiser_of: what a method was given to predict with (a denoiser, or a ready prediction; in a host its own model or
        condition) -> denoiser (x, sigma [B]) -> denoised, or None where it has no say at this noise level.
    """

    path: NoisePath = VE
    sigmas: tuple[float, ...] | None = None
    seed: int = 0
    percent: Callable[[float], float] | None = None
    output: Parameterization | None = None
    record: Callable[[object], None] = _ignore
    denoiser_of: Callable[[object], Callable[[Tensor, Tensor], Tensor]] = _denoiser

    @property
    def parameterization(self) -> Parameterization:
        """The model's output space; where it was not said, eps on VE and VP, velocity on flow."""
        return self.output or default_parameterization(self.path)

    @property
    def levels(self) -> tuple[float, ...]:
        """The noise levels at which steps begin. Raises GuidanceError when the run's sigmas are unknown."""
        if self.sigmas is None:
            raise GuidanceError(
                "This schedule needs to know the run: sample with guidance_core.sample, or call "
                "denoiser.start(Run(sigmas=...)), or use the axis 'sigma' or 'log_snr' with start and end given and "
                "preserve_mean off."
            )
        return self.sigmas[:-1]

    @property
    def begins_in_noise(self) -> bool:
        """Whether the run is known and begins in pure noise: no second half of a run, no picture to start from."""
        if self.sigmas is None:
            return False
        if self.percent is not None:
            return self.percent(self.sigmas[0]) < NOISIEST
        return float(self.path.log_snr(torch.tensor(self.sigmas[0], dtype=torch.float64))) < PURE_NOISE

    def level_after(self, sigma: float) -> float:
        """The next noise level of the run below sigma; 0 when the run is unknown or at its end."""
        return next((level for level in self.sigmas or () if level < sigma * (1 - 1e-6)), 0.0)

    def step(self, sigma: float) -> float:
        """The step at sigma as a real number: i at the start of step i, between two steps in proportion to sigma."""
        levels = self.levels
        for i, (high, low) in enumerate(zip(levels, levels[1:], strict=False)):
            if sigma >= high:
                return float(i)
            if sigma > low:
                return i + (high - sigma) / (high - low)
        return float(len(levels) - 1)

    def position(self, axis: str, sigma: float) -> float:
        """Where sigma lies on an axis: step and percent in [0, 1] from noisy to clean, sigma itself, or its log-SNR."""
        if axis == "step":
            return self.step(sigma) / max(len(self.levels) - 1, 1)
        if axis == "percent":
            if self.percent is not None:
                return self.percent(sigma)
            if self.path is FLOW:
                return 1 - sigma
            raise GuidanceError(
                "The percent axis needs the model's training levels: pass training_sigmas to sample(), "
                "or use the axis 'step', 'sigma' or 'log_snr'."
            )
        if axis == "log_snr":
            return float(self.path.log_snr(torch.tensor(sigma, dtype=torch.float64)))
        return sigma


def percent_of_training(sigmas: Tensor) -> Callable[[float], float]:
    """The timestep percent of a discrete model: 1 - t / (n - 1), t interpolated in log sigma. sigmas [n] rises."""
    levels = sigmas.cpu().double().log()

    def percent(sigma: float) -> float:
        x = torch.tensor(sigma, dtype=torch.float64).log().clamp(levels[0], levels[-1])
        high = int(torch.searchsorted(levels, x).clamp(1, len(levels) - 1))
        t = high - 1 + float((x - levels[high - 1]) / (levels[high] - levels[high - 1]))
        return 1 - t / (len(levels) - 1)

    return percent


def level_of(sigma: Tensor) -> float:
    """The one noise level of a batch. Raises GuidanceError when the samples are at different levels."""
    levels = set(sigma.flatten().tolist())
    if len(levels) != 1:
        raise GuidanceError(f"A schedule needs one noise level for the whole batch, got {len(levels)} different ones.")
    return levels.pop()
