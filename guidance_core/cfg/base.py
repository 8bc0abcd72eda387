"""The CFG pipeline: a prediction flows through small stages in a fixed order, whatever the order they were added in."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar

from torch import Tensor

from ..errors import GuidanceError
from ..params import Checked, is_number
from ..run import Run
from ..scale import ScaleSchedule, effective_scale


class Phase(IntEnum):
    """When a stage acts. Between SCALE and RESULT the pipeline forms guided = uncond + scale * (cond - uncond)."""

    PREDICTIONS = 0  # adjusts cond or uncond
    DIFFERENCE = 1  # adjusts cond - uncond, by moving uncond
    SCALE = 2  # adjusts the scale
    RESULT = 3  # adjusts guided


@dataclass(frozen=True)
class Prediction:
    """What stages see and replace: denoised predictions [B, C, ...] at one call of the model."""

    x: Tensor
    sigma: Tensor  # [B]
    cond: Tensor
    uncond: Tensor
    scale: float | Tensor
    guided: Tensor | None = None  # set from the RESULT phase on


Stage = Callable[[Prediction], Prediction]


class Method(Checked, ABC):
    """One published way to combine cond and uncond: a frozen dataclass of its parameters, found by discovery.

    doc: what it does to the picture, in plain words. source: paper. uncond_at_zero: at scale 0 the result is uncond, so
    that the conditional pass need not run.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    doc: ClassVar[str]
    source: ClassVar[str]
    uncond_at_zero: ClassVar[bool] = False

    @abstractmethod
    def start(self, run: Run) -> dict[Phase, Stage]:
        """Open a run: the stages this method adds, by phase. State lives in the stages' closures."""


@dataclass(frozen=True)
class Passes:
    """Which predictions one call needs."""

    cond: bool
    uncond: bool


@dataclass(frozen=True)
class Pipeline:
    """Classifier-free guidance as set by the user: scale, schedule, and the methods stacked so far."""

    scale: float
    schedule: ScaleSchedule = ScaleSchedule()
    methods: tuple[Method, ...] = ()

    def __post_init__(self) -> None:
        if not (is_number(self.scale) and math.isfinite(self.scale)):
            raise GuidanceError(f"scale must be a finite number, got {self.scale!r}.")

    def extended(self, scale: float, schedule: ScaleSchedule, method: Method) -> "Pipeline":
        """This pipeline with one more method, under a new scale and schedule. A method twice is a GuidanceError."""
        if method.name != "standard" and any(method.name == other.name for other in self.methods):
            raise GuidanceError(
                f"the method '{method.name}' is already in this model's pipeline; remove one of the two."
            )
        return Pipeline(scale, schedule, (*self.methods, method))

    def start(self, run: Run) -> "PipelineRun":
        """Open a run with fresh state."""
        return PipelineRun(self, run)


class PipelineRun:
    """One run of a pipeline: effective scales, needed passes, combinations."""

    def __init__(self, pipeline: Pipeline, run: Run):
        self._scale = pipeline.scale
        self.strength_at = pipeline.schedule.over(run)  # by noise level
        methods = sorted(pipeline.methods, key=lambda method: method.name)
        stages = [item for method in methods for item in method.start(run).items()]
        stages.sort(key=lambda item: item[0])  # by phase, and by name within one
        self._before = [stage for phase, stage in stages if phase < Phase.RESULT]
        self._after = [stage for phase, stage in stages if phase >= Phase.RESULT]
        self._uncond_at_zero = all(method.uncond_at_zero for method in pipeline.methods)

    @property
    def plain(self) -> bool:
        """Whether no stage acts, so that uncond + scale * (cond - uncond) is all there is."""
        return not self._before and not self._after

    def scale_at(self, sigma: float) -> float:
        """The effective scale at a noise level; exactly 1 and 0 mark the passes that need not run."""
        return effective_scale(self._scale, self.strength_at(sigma))

    def passes(self, scale: float) -> Passes:
        """Which predictions the combination at this effective scale needs."""
        return Passes(cond=scale != 0 or not self._uncond_at_zero, uncond=scale != 1)

    def combine(self, cond: Tensor, uncond: Tensor, x: Tensor, sigma: Tensor, scale: float) -> Tensor:
        """The guided denoised prediction. Inputs are left as they are; scale 1 is off and gives cond."""
        if scale == 1:
            return cond
        p = Prediction(x, sigma, cond, uncond, scale)
        for stage in self._before:
            p = stage(p)
        p = replace(p, guided=p.uncond + (p.cond - p.uncond) * p.scale)
        for stage in self._after:
            p = stage(p)
        return p.guided
