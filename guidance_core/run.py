"""What is known of a sampling run before it starts, and where in the run a noise level lies."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .errors import GuidanceError, shortened
from .frozen import frozen
from .parameterizations import Parameterization, default_parameterization
from .paths import FLOW, VE, NoisePath

AXES = ("step", "percent", "sigma", "log_snr")

EDGE = 1e-6  # levels closer than this (relative) are one: sigmas arrive in single precision
PURE_NOISE = -4.5  # log-SNR below which a run begins in noise, and not in a picture, as far as can be told
NOISIEST = 0.01  # timestep percent below which it does, where that is known


def _ignore(event: object) -> None:
    pass


def _no_condition(x: Tensor, sigma: Tensor) -> Tensor:
    raise GuidanceError(
        "this term needs the model's conditional prediction, and this denoiser has none to give: add the term by "
        "cfg_guided(..., terms=[...]) or self_guided."
    )


def _denoiser(source: Any) -> Callable[[Tensor, Tensor], Tensor]:
    return (lambda x, sigma: source) if isinstance(source, Tensor) else source


@frozen
class Run:
    """A sampling run: its path, the sigmas that it visits in order (None when unknown), and what the model is.

    sigmas: a step goes from each to the next. They fall to 0 as a rule, end above it where a run is split, rise where
        it adds noise (unsampling), and do both where it restarts: what asks for a place then follows it by a Cursor.
    percent: sigma -> ComfyUI's timestep percent (0 at the noisiest training level, 1 at the cleanest); on the flow path
        1 - sigma where it is not given, which is ComfyUI's for a model without a shift.
    output: the space of the model's own output. record: called with each event worth tracing.
    denoiser_of: what a method was given to predict with (a denoiser, or a ready prediction; in a host its own model or
        condition) -> denoiser (x, sigma [B]) -> denoised, or None where it has no say at this noise level.
    conditional: (x, sigma [B]) -> the model's own prediction under the condition at the call under way, denoised; what
        has run already does not run again. None where the condition has no say at this noise level.
    """

    path: NoisePath = VE
    sigmas: tuple[float, ...] | None = None
    seed: int = 0
    percent: Callable[[float], float] | None = None
    output: Parameterization | None = None
    record: Callable[[object], None] = _ignore
    denoiser_of: Callable[[Any], Callable[[Tensor, Tensor], Tensor]] = _denoiser
    conditional: Callable[[Tensor, Tensor], Tensor | None] = _no_condition

    def __post_init__(self) -> None:
        if not isinstance(self.path, NoisePath):
            raise GuidanceError(
                f"path must be a NoisePath, such as VE, VP or FLOW of guidance_core, got {shortened(repr(self.path))}."
            )

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

    @property
    def rises(self) -> bool:
        """Whether the run is known and goes from less noise to more."""
        return self.sigmas is not None and self.sigmas[0] < self.sigmas[-1]

    def level_after(self, sigma: float, after: float | None = None) -> float:
        """The noise level that the run goes to from sigma; 0 when the run is unknown or at its end. after: see step."""
        if self.sigmas is None:
            return 0.0
        ahead = self.sigmas[int(self.step(sigma, after)) + 1 :]
        return next((level for level in ahead if abs(level - sigma) > EDGE * sigma), 0.0)

    def step(self, sigma: float, after: float | None = None) -> float:
        """The step at sigma as a real number: i at the start of step i, between two steps in proportion to sigma.

        after: a step. Of several places with this sigma it is the first from there on; where none is, the first of all.
        Raises GuidanceError when the run's sigmas are unknown, and for a sigma at several places without `after`.
        """
        places = self._places(sigma)
        if after is not None:
            return next((place for place in places if place > after - EDGE), places[0])
        if places[-1] - places[0] > EDGE:
            raise GuidanceError(
                f"The run is at sigma {sigma:.4g} more than once, first at step {places[0]:g}, last at {places[-1]:g}: "
                f"say after which step, or follow the run's calls in order by a Cursor."
            )
        return places[0]

    def _places(self, sigma: float) -> list[float]:
        """Every step at sigma, rising; beyond what the run visits, those of the level nearest to it."""
        last, visited = float(len(self.levels) - 1), self.sigmas or ()
        nearest = min(visited, key=lambda level: abs(level - sigma))
        if abs(nearest - sigma) <= EDGE * nearest or not min(visited) < sigma < max(visited):
            sigma = nearest
        places = []
        for i, (a, b) in enumerate(pairwise(visited)):
            if a >= sigma >= b or a <= sigma <= b:
                places.append(min(i + (a - sigma) / (a - b) if a != b else float(i), last))
        return places or [last]

    def position(self, axis: str, sigma: float, after: float | None = None) -> float:
        """Where sigma lies on an axis: step and percent in [0, 1], sigma itself, or its log-SNR. after: see step."""
        if axis == "step":
            return self.step(sigma, after) / max(len(self.levels) - 1, 1)
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


class Cursor:
    """Follows a run by the noise levels of its calls, in order, and so tells apart those that the run visits twice."""

    def __init__(self, run: Run):
        self._run, self._step = run, 0.0

    def step(self, sigma: float) -> float:
        """The step of a call at sigma: the first from the last call's on. Raises GuidanceError as Run.step does."""
        self._step = self._run.step(sigma, self._step)
        return self._step

    def position(self, axis: str, sigma: float) -> float:
        """Where a call at sigma lies on an axis, as Run.position has it."""
        return self._run.position(axis, sigma, self.step(sigma) if axis == "step" else None)


class Continuity:
    """Whether the calls of a run go on from one another, so that what was kept at one is of use at the next.

    They do not where shape, dtype or device of x change, or where the noise level turns back: rises in a run that falls
    (a restart, a sub-run of its own inside the run), or falls in a run that rises.
    """

    def __init__(self, run: Run):
        self._way = -1 if run.rises else 1
        self._kind: tuple[object, ...] | None = None
        self._levels: list[float] = []

    def goes_on(self, x: Tensor, levels: list[float]) -> bool:
        """Note a call, by x and its samples' levels: whether it goes on from the last one (the first does)."""
        before, kind = (self._kind, self._levels), (x.shape, x.dtype, x.device)
        self._kind, self._levels = kind, levels
        if before[0] is None:
            return True
        turned = (self._way * (now - then) > EDGE * then for now, then in zip(levels, before[1], strict=False))
        return kind == before[0] and not any(turned)


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
