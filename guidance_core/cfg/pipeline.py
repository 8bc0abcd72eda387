"""The CFG pipeline: a prediction flows through small stages in a fixed order, whatever the order they were added in."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ..errors import GuidanceError
from ..frozen import frozen
from ..params import Checked, number
from ..run import Continuity, Cursor, Run, level_of
from ..scale import ScaleSchedule, effective_scale
from ..tensors import expand
from .base import Method, Phase, Prediction, ScaleEvent

Add = Callable[[Tensor], Tensor]  # guided -> guided with terms added; itself where none acts


def nothing_added(guided: Tensor) -> Tensor:
    """The addition where there are no terms."""
    return guided


class Passes(NamedTuple):
    """Which predictions one call needs."""

    cond: bool
    uncond: bool


@frozen
class Pipeline(Checked):
    """Classifier-free guidance as set by the user: scale, schedule, and the methods stacked so far.

    Raises GuidanceError for a method twice, and for two that decide the same.
    """

    scale: float = number(
        6.0, -100.0, 100.0, 0.1, "How strongly to follow the condition: 1 is off, 5 to 8 is usual for pictures."
    )
    schedule: ScaleSchedule = ScaleSchedule()
    methods: tuple[Method, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for i, method in enumerate(self.methods):
            for other in self.methods[:i]:
                _check_together(method, other)

    def extended(self, scale: float, schedule: ScaleSchedule, method: Method) -> "Pipeline":
        """This pipeline with one more method, under a new scale and schedule."""
        return Pipeline(scale, schedule, (*self.methods, method))

    @property
    def stages(self) -> tuple[Method, ...]:
        """The methods that do anything, in the order in which they act within a phase."""
        return tuple(sorted((m for m in self.methods if not m.plain), key=lambda m: (m.rank, m.name)))

    @property
    def replaces_uncond(self) -> bool:
        """Whether a method brings a prediction in the place of uncond, whose pass then need not run."""
        return any(method.replaces_uncond for method in self.methods)

    @cached_property
    def constant(self) -> bool:
        """Whether the scale is the same at every noise level."""
        return self.schedule == ScaleSchedule()

    def scale_over(self, run: Run) -> Callable[[float], float]:
        """The effective scale over a run by noise level, before any method adjusts it; to look ahead."""
        if self.constant:
            return lambda sigma: effective_scale(self.scale, 1.0)
        strength = self.schedule.over(run)
        return lambda sigma: effective_scale(self.scale, strength(sigma))

    def start(self, run: Run) -> "PipelineRun":
        """Open a run with fresh state."""
        return PipelineRun(self, run)


def _check_together(method: Method, other: Method) -> None:
    if method.name == other.name and not method.plain:
        raise GuidanceError(f"the method '{method.name}' is already in this model's pipeline; remove one of the two.")
    if both := method.decides & other.decides:
        raise GuidanceError(
            f"'{method.name}' and '{other.name}' both decide {' and '.join(sorted(both))}, so they have no meaning "
            f"together; remove one of the two."
        )


class PipelineRun:
    """One run of a pipeline: effective scales, needed passes, combinations."""

    def __init__(self, pipeline: Pipeline, run: Run):
        self._pipeline, self._run = pipeline, run
        self._steady = effective_scale(pipeline.scale, 1.0) if pipeline.constant else None  # at every noise level
        self._strength = pipeline.schedule.over(run) if self._steady is None else lambda sigma: 1.0
        self._continuity, self._cursor, self._step = Continuity(run), Cursor(run), 0.0
        self.replaces_uncond = pipeline.replaces_uncond
        at_zero = 1 / (1 - pipeline.scale) if pipeline.scale != 1 else 1.0  # the strength at an effective scale of 0
        self._uncond_at_zero = all(method.uncond_at_zero(at_zero) for method in pipeline.methods)
        self._open()

    def _open(self) -> None:
        """Begin with nothing kept."""
        stages = [item for method in self._pipeline.stages for item in method.start(self._run).items()]
        stages.sort(key=lambda item: item[0])  # by phase, and by rank within one
        self._before = [stage for phase, stage in stages if phase < Phase.RESULT]
        self._after = [stage for phase, stage in stages if phase >= Phase.RESULT]
        self._settled: Tensor | None = None
        self._all_settled = False

    def begin(self, x: Tensor, sigma: Tensor) -> None:
        """Note a call of the model, before its scale and passes are asked for: x [B, C, ...], sigma [B].

        Where it does not go on from the last one, what methods keep is forgotten.
        """
        if self.plain:
            return
        levels = sigma.tolist()
        if not self._continuity.goes_on(x, levels):
            self._open()
        if self._run.sigmas is not None:
            self._step = self._cursor.step(levels[0])

    @property
    def plain(self) -> bool:
        """Whether no stage acts, so that uncond + scale * (cond - uncond) is all there is."""
        return not self._before and not self._after

    @property
    def steady(self) -> bool:
        """Whether its scale is the same at every call, whatever comes of the calls."""
        return self._steady is not None and self.plain

    def strength_at(self, sigma: float | Tensor) -> float:
        """The schedule at a noise level, of a batch [B] at the first one's.

        A tensor is not read without a schedule, as that waits for it.
        """
        if self._steady is not None:
            return 1.0
        return self._strength(float(sigma.flatten()[0] if isinstance(sigma, Tensor) else sigma))

    def scale_at(self, sigma: float | Tensor) -> float:
        """The effective scale at a noise level; exactly 1 and 0 mark the passes that need not run."""
        if self._all_settled:
            return 1.0
        if self._steady is not None:
            return self._steady
        return effective_scale(self._pipeline.scale, self.strength_at(sigma))

    def scale_of(self, sigma: Tensor) -> float:
        """The effective scale of a batch. Raises GuidanceError under a schedule for samples at different levels."""
        return self.scale_at(level_of(sigma) if self._steady is None else math.nan)

    def passes(self, scale: float) -> Passes:
        """Which predictions the combination at this effective scale needs."""
        return Passes(cond=scale != 0 or not self._uncond_at_zero, uncond=scale != 1 and not self.replaces_uncond)

    def combine(
        self, cond: Tensor, uncond: Tensor | None, x: Tensor, sigma: Tensor, scale: float, add: Add = nothing_added
    ) -> Tensor:
        """The guided denoised prediction, in cond's dtype. Inputs are left as they are; scale 1 is off and gives cond.

        uncond may be None where `passes` says that it need not run. add: what terms add before the result is adjusted;
        where they do, at scale 1 too, the stages of Phase.RESULT see it.
        """
        self.begin(x, sigma)
        uncond = cond if uncond is None else uncond
        if self.plain:
            return add(cond if scale == 1 else uncond + (cond - uncond) * scale)
        wide = torch.promote_types(cond.dtype, torch.float32)
        if scale == 1:
            guided = add(cond)
            off = Prediction(x.to(wide), sigma, cond.to(wide), cond.to(wide), 1.0, 0.0, self._step)
            return cond if guided is cond else self._finished(replace(off, guided=guided.to(wide))).to(cond.dtype)
        strength = self.strength_at(level_of(sigma)) if self._steady is None else 1.0
        p = Prediction(x.to(wide), sigma, cond.to(wide), uncond.to(wide), scale, strength, self._step)
        for stage in self._before:
            p = stage(p)
        self._run.record(ScaleEvent(sigma, p.scale))
        return self._formed(p, cond.to(wide), add).to(cond.dtype)

    def _formed(self, p: Prediction, cond: Tensor, add: Add) -> Tensor:
        """The guided prediction; samples that need no guidance any more are as at scale 1."""
        formed = p.uncond + p.difference * p.scale
        if self._settled is not None:
            formed = torch.where(expand(self._settled, p.x).bool(), cond, formed)
        guided = add(formed)
        result = self._finished(replace(p, guided=guided))
        if self._settled is not None and guided is formed:
            result = torch.where(expand(self._settled, p.x).bool(), cond, result)
        if p.settled is not None:
            self._settled = p.settled if self._settled is None else self._settled | p.settled
            self._all_settled = bool(self._settled.all())
        return result

    def _finished(self, p: Prediction) -> Tensor:
        """What the stages of Phase.RESULT make of p.guided."""
        for stage in self._after:
            p = stage(p)
        return cast(Tensor, p.guided)
