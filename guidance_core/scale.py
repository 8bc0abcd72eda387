"""ScaleSchedule: how the strength of guidance changes over a sampling run."""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from .errors import GuidanceError, shortened
from .frozen import frozen
from .params import Checked, check_known, choice, flag, is_number, number
from .run import AXES, EDGE, Cursor, Run
from .shapes import SHAPES, Constant, Flat, Shape

POSITIONS = {"step": (0, 1), "percent": (0, 1), "sigma": (0, math.inf), "log_snr": (-math.inf, math.inf)}


@frozen
class ScaleSchedule(Checked):
    """A strength s for every position in a run: 1 = as set, 0 = off.

    CFG runs at 1 + (scale - 1) * s, added terms at scale * s.

    shape: a Shape (`Power(exponent=3)`) or the name of one with its defaults ("cosine"; see SHAPES).
    axis: what positions mean, and with it start and end:
        step      fraction of the sampling steps, 0 the first and 1 the last
        percent   ComfyUI's timestep percent, 0 the noisiest and 1 the cleanest training level
        sigma     the noise level, falling over a run, so start > end
        log_snr   log signal-to-noise ratio, rising over a run
    start, end: the window in which the shape runs from its first to its last value; outside it the strength is 0.
        None is the run's own: its first level or its last (of an unknown run, on the percent axis, the model's). step
        and percent include both ends; sigma and log_snr include the noisy end only (sigma_lo < sigma <= sigma_hi).
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
    axis: str = choice("step", AXES, "What start and end are measured in.")
    reverse: bool = flag(False, "Run the shape backwards: from strong to weak.")
    preserve_mean: bool = flag(
        False, "Scale the curve so that its mean over the steps is 1: as much guidance in all as without a schedule."
    )

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.shape, str):
            name = self.shape.replace("-", "_").replace(" ", "_")
            if name not in SHAPES:
                check_known("schedule shape", self.shape, SHAPES)
            object.__setattr__(self, "shape", SHAPES[name]())
        for name in ("start", "end"):
            value = getattr(self, name)
            low, high = POSITIONS[self.axis]
            if value is not None and not (is_number(value) and low <= value <= high):
                raise GuidanceError(
                    f"{name} must be in [{low}, {high}] on the {self.axis} axis, got {shortened(repr(value))}."
                )
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
        return self._strength(float(position), self._window(Run()))

    def over(self, run: Run) -> Callable[[float], float]:
        """The strength over a run, as a function of the noise level; called in the run's order, it follows the run."""
        mean, window, cursor = 1.0, self._window(run), Cursor(run)
        if self.preserve_mean:
            ahead = Cursor(run)
            strengths = [self._strength(ahead.position(self.axis, level), window) for level in run.levels]
            mean = sum(strengths) / len(strengths)
            if abs(mean) < EDGE:
                raise GuidanceError("preserve_mean needs a schedule whose mean over the run is not 0; switch it off.")
        return lambda sigma: self._strength(cursor.position(self.axis, sigma), window) / mean

    def _order(self, position: float) -> float:
        return -position if self.axis == "sigma" else position

    def _window(self, run: Run) -> tuple[float, float]:
        """start and end in rising order, the run's own range where they are open."""
        if self.start is not None and self.end is not None:
            return self._order(self.start), self._order(self.end)
        if self.axis == "step" or self.axis == "percent" and run.sigmas is None:
            first, last = 0.0, 1.0
        elif run.sigmas is not None:
            places = [self._order(run.position(self.axis, level)) for level in run.levels]
            places = [place for place in places if math.isfinite(place)]  # pure noise has a log-SNR of -infinity
            first, last = min(places, default=-math.inf), max(places, default=math.inf)
        else:
            first, last = -math.inf, math.inf
        start = first if self.start is None else self._order(self.start)
        return start, last if self.end is None else self._order(self.end)

    def _strength(self, position: float, window: tuple[float, float]) -> float:
        place, (start, end) = self._order(position), window
        if self.start is not None and _before(place, start):
            return 0.0
        includes_end = self.axis in ("step", "percent")
        if self.end is not None and (_before(end, place) if includes_end else not _before(place, end)):
            return 0.0
        shape = cast(Shape, self.shape)  # of whatever it was made
        if isinstance(shape, Flat):
            return self.high
        if not math.isfinite(end - start):
            raise GuidanceError(
                f"A {shape.name} schedule on the {self.axis} axis needs start and end, or a run with known sigmas."
            )
        u = min(max((place - start) / (end - start), 0.0), 1.0) if end > start else 0.0
        return shape.strength(1 - u if self.reverse else u, self.low, self.high)


def as_schedule(schedule: ScaleSchedule | None) -> ScaleSchedule:
    """A schedule as given; without one, always 1. Raises GuidanceError for anything else."""
    if schedule is None or isinstance(schedule, ScaleSchedule):
        return schedule or ScaleSchedule()
    raise GuidanceError(
        f"schedule must be a ScaleSchedule, got {shortened(repr(schedule))}: write "
        f"ScaleSchedule('interval', start=0.2, end=0.8), or another shape."
    )


def _before(a: float, b: float) -> bool:
    return a < b - EDGE * max(1.0, min(abs(a), abs(b)))


def effective_scale(scale: float, strength: float) -> float:
    """CFG's scale at a schedule strength, 1 + (scale - 1) * s; exactly 1 or 0 where it is within 1e-6 of them."""
    value = 1 + (scale - 1) * strength
    for whole in (0.0, 1.0):
        if abs(value - whole) < 1e-6:
            return whole
    return value
