"""ScaleSchedule: how the strength of guidance changes over a sampling run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import GuidanceError
from .params import Checked, choice, flag, number
from .run import AXES, Run
from .shapes import SHAPES, Constant, Flat, Shape

EDGE = 1e-6  # positions closer than this (relative) are one: sigmas arrive in single precision


@dataclass(frozen=True)
class ScaleSchedule(Checked):
    """A strength for every position in a run: 1 = as set, 0 = off. CFG runs at 1 + (scale - 1) * s, added terms at scale * s.

    shape: a Shape (`Power(exponent=3)`) or the name of one with its defaults ("cosine"; see SHAPES).
    axis: what positions mean, and with it start and end:
        step      fraction of the sampling steps, 0 the first and 1 the last
        percent   ComfyUI's timestep percent, 0 the noisiest and 1 the cleanest training level
        sigma     the noise level, falling over a run, so start > end
        log_snr   log signal-to-noise ratio, rising over a run
    start, end: the window in which the shape runs from its first to its last value; outside it the strength is 0. None is
        the whole run. step and percent include both ends; sigma and log_snr include the noisy end only
        (sigma_lo < sigma <= sigma_hi).
    low, high: the strengths that the shape runs between (for points and value lists the strengths are in the list).
    reverse: run the shape from its last value to its first.
    preserve_mean: divide by the mean over the steps of the run, so that the schedule spends as much guidance as a
        constant one (arXiv:2404.13040).

    Call it with a position on its axis (float or tensor); `over(run)` gives the strength by noise level in a run.
    Raises GuidanceError for a window that runs backwards or a value out of range.
    """

    shape: Shape | str = Constant()
    start: float | None = None
    end: float | None = None
    low: float = number(0.0, -10.0, 10.0, 0.01, "Strength where the shape is lowest; 0 is off.")
    high: float = number(1.0, -10.0, 10.0, 0.01, "Strength where the shape is highest; 1 is the full scale.")
    axis: str = choice("step", AXES, "What start and end count.")
    reverse: bool = flag(False, "Run the shape backwards: from strong to weak.")
    preserve_mean: bool = flag(
        False, "Scale the curve so that its mean over the steps is 1: as much guidance in all as without a schedule."
    )

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.shape, str):
            name = self.shape.replace("-", "_").replace(" ", "_")
            if name not in SHAPES:
                raise GuidanceError(f"There is no schedule shape '{self.shape}'; choose one of {', '.join(SHAPES)}.")
            object.__setattr__(self, "shape", SHAPES[name]())
        for name in ("start", "end"):
            value = getattr(self, name)
            if value is not None and (math.isnan(value) or (self.axis in ("step", "percent") and not 0 <= value <= 1)):
                raise GuidanceError(f"{name} must be in [0, 1] on the {self.axis} axis, got {value}.")
        if self.start is not None and self.end is not None and self._order(self.start) > self._order(self.end):
            way = "falls" if self.axis == "sigma" else "rises"
            raise GuidanceError(
                f"start must come before end: {self.axis} {way} over a run, got start {self.start:g}, end {self.end:g}."
            )

    def __call__(self, position: float | Tensor) -> float | Tensor:
        """The strength at a position on the axis, outside any run. A tensor gives a tensor of the same shape.

        Raises GuidanceError where the answer depends on the run: preserve_mean, or an open window in sigma or log_snr.
        """
        if isinstance(position, Tensor):
            values = [self(float(p)) for p in position.flatten()]
            return torch.tensor(values, dtype=torch.float64).reshape(position.shape)
        if self.preserve_mean:
            return self.over(Run())(float(position))
        return self._strength(float(position), Run())

    def over(self, run: Run) -> Callable[[float], float]:
        """The strength over a run, as a function of the noise level."""
        mean = 1.0
        if self.preserve_mean:
            strengths = [self._strength(run.position(self.axis, level), run) for level in run.levels]
            mean = sum(strengths) / len(strengths)
            if abs(mean) < EDGE:
                raise GuidanceError("preserve_mean needs a schedule whose mean over the run is not 0; switch it off.")
        return lambda sigma: self._strength(run.position(self.axis, sigma), run) / mean

    def _order(self, position: float) -> float:
        return -position if self.axis == "sigma" else position

    def _window(self, run: Run) -> tuple[float, float]:
        """start and end in rising order, the run's own range where they are open."""
        if self.axis in ("step", "percent"):
            first, last = 0.0, 1.0
        elif run.sigmas is not None:
            first, last = (self._order(run.position(self.axis, level)) for level in (run.levels[0], run.levels[-1]))
        else:
            first, last = -math.inf, math.inf
        start = first if self.start is None else self._order(self.start)
        return start, last if self.end is None else self._order(self.end)

    def _strength(self, position: float, run: Run) -> float:
        place = self._order(position)
        start, end = self._window(run)
        margin = EDGE * max(1.0, abs(place))
        includes_end = self.end is None or self.axis in ("step", "percent")
        early = self.start is not None and place < start - margin
        late = self.end is not None and place > end + (margin if includes_end else -margin)
        if early or late:
            return 0.0
        if isinstance(self.shape, Flat):
            return self.high
        if not math.isfinite(end - start):
            raise GuidanceError(
                f"A {self.shape.name} schedule on the {self.axis} axis needs start and end, or a run with known sigmas."
            )
        u = min(max((place - start) / (end - start), 0.0), 1.0) if end > start else 0.0
        return self.shape.strength(1 - u if self.reverse else u, self.low, self.high)


def effective_scale(scale: float, strength: float) -> float:
    """CFG's scale at a schedule strength, 1 + (scale - 1) * s; exactly 1 or 0 where it is within 1e-6 of them."""
    value = 1 + (scale - 1) * strength
    for whole in (0.0, 1.0):
        if abs(value - whole) < 1e-6:
            return whole
    return value
