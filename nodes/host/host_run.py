"""One sampling run of a plan under a guider: what it has asked for, what it has seen, and what of it is kept."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from comfy.model_patcher import ModelPatcher

from ...guidance_core.cfg import PipelineRun, ScaleEvent
from ...guidance_core.paths import VE
from ...guidance_core.run import Cursor, Run
from ...guidance_core.terms.judged import TermEvent
from ...guidance_core.throttle import Throttle
from ..ui.live import INTERVAL
from ..ui.messages import speaking_as
from .connections import check_connected, conditions_of, denoiser_of
from .guiders import Guider
from .model_facts import ModelOutput, path_of, percent_of
from .plan import PartEvent, Plan, RunReport, TermPart


class TermRun:
    """One run of a classifier term, and what it has seen so far."""

    def __init__(self, part: TermPart, run: Run, record: Callable[[object], None]):
        self.part, self.gradients = part, 0
        self.last: PartEvent | None = None
        self.now: PartEvent | None = None  # of the call under way, or the one just done
        self._record = record
        with speaking_as(part.title):
            self._guided = part.term.start(replace(run, record=self._seen))

    def __call__(self, denoised, x, sigma):
        self.now = None
        with speaking_as(self.part.title):
            return self._guided(denoised, x, sigma)

    def _seen(self, event: TermEvent) -> None:
        self.gradients += 1
        self.last = self.now = PartEvent(**vars(event), part=self.part)
        self._record(self.now)


@dataclass
class HostRun:
    """The state of a run."""

    plan: Plan
    guider: Guider
    report: RunReport
    about: Run | None = None
    steps: Cursor | None = None
    pipeline: PipelineRun | None = None
    terms: list[TermRun] = field(default_factory=list)
    passes: int = 0  # that CFG asks for
    expected: int = 0  # that CFG would ask for without leaving any out
    forced: bool = False  # the sampler or another node asked for every pass
    live: Throttle = field(default_factory=lambda: Throttle(INTERVAL))
    # of the call under way:
    options: dict = field(default_factory=dict)
    roles: tuple[str, ...] = ()  # of its batch of passes
    adjusted: float | torch.Tensor | None = None  # the scale that methods made
    alone: torch.Tensor | None = None  # output of its last pass that ran by itself

    def begin_call(self, model_options: dict) -> None:
        """Forget what belongs to the call before."""
        self.options, self.adjusted, self.alone = model_options, None, None

    def end(self) -> None:
        """Keep the counts of a run that came to its end."""
        self.report.passes, self.report.expected, self.report.finished = self.passes, self.expected, True

    def ran(self, parts: int) -> None:
        """Count passes that a method runs beside the guider's."""
        self.passes += parts

    def combined(self, event: ScaleEvent) -> None:
        """Note the scale of a combination."""
        self.adjusted = event.scale


def run_of(model: ModelPatcher, sigmas: torch.Tensor, seed: int | None = None, **more) -> Run:
    """What the core needs to know of a run of this MODEL."""
    return Run(
        path_of(model) or VE,
        tuple(sigmas.tolist()),
        seed=seed or 0,
        percent=percent_of(model),
        output=ModelOutput(model.get_model_object("model_sampling")),
        **more,
    )


def opened(plan: Plan, guider: Guider, sigmas: torch.Tensor, seed: int | None) -> HostRun:
    """A run of a plan with fresh state, noted in its journal; the guider is given the conditions of methods."""
    run = HostRun(plan, guider, RunReport(type(guider).__name__, tuple(sigmas.tolist())))
    run.about = run_of(
        guider.model_patcher,
        sigmas,
        seed,
        record=run.combined,
        denoiser_of=denoiser_of(guider, lambda: run.options, run.ran),
    )
    run.steps = Cursor(run.about)
    run.terms = [TermRun(part, run.about, run.report.events.append) for part in plan.terms]
    if plan.cfg is not None:
        with speaking_as(plan.cfg.title):
            check_connected(guider.model_patcher, plan.cfg.pipeline.methods)
            run.pipeline = plan.cfg.pipeline.start(run.about)
        guider.conds = {**guider.conds, **conditions_of(plan.cfg.pipeline.methods)}
    plan.journal.runs.append(run.report)
    return run
