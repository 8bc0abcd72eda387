"""One sampling run of a plan under a guider: what it has asked for, what it has seen, and what of it is kept."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from time import perf_counter

import torch
from comfy.model_patcher import ModelPatcher

from ...guidance_core.cfg import PipelineRun, ScaleEvent
from ...guidance_core.classifier.noisy import NoisyClassifier
from ...guidance_core.paths import VE
from ...guidance_core.run import Cursor, Run
from ...guidance_core.terms.judged import JudgedEvent
from ...guidance_core.throttle import Throttle
from ..ui.live import INTERVAL
from ..ui.messages import speaking_as
from .connections import check_connected
from .denoisers import Denoisers, Start, add_conditions
from .guiders import Call, Guider
from .model_facts import ModelOutput, path_of, percent_of
from .packed import PackedPipeline, Packing
from .passes import PassCounter
from .plan import PartEvent, Plan, RunReport, TermPart


class TermRun:
    """One run of a classifier term, and what it has seen so far."""

    def __init__(self, part: TermPart, run: Run, record: Callable[[object], None], packing: Packing):
        self.part, self.gradients = part, 0
        self.shares: list[float] = []  # at each call that was timed, its time in that of the model's own passes
        self.last: PartEvent | None = None
        self.now: PartEvent | None = None  # of the call under way, or the one just done
        self._record = record
        self._packing, self._place = packing, 0  # a judge of pictures sees the first part
        classifier = part.term.classifier
        with speaking_as(part.title, part.node_id):
            if isinstance(classifier, NoisyClassifier):
                self._place = packing.part_for(classifier.channels)
            self._guided = part.term.start(replace(run, record=self._seen))

    def __call__(self, denoised, x, sigma):
        self.now, began = None, perf_counter()
        parts, xs = self._packing.split(denoised), self._packing.split(x)
        with speaking_as(self.part.title, self.part.node_id):
            parts[self._place] = self._guided(parts[self._place], xs[self._place], sigma)
        self.seconds = perf_counter() - began  # what acted has read its gradient, and so waited for it
        return self._packing.joined(parts)

    def _seen(self, event: JudgedEvent) -> None:
        self.gradients += 1
        self.last = self.now = PartEvent(**vars(event), part=self.part)
        self._record(self.now)


@dataclass
class HostRun:
    """The state of a run, and of the call of the guider that is under way."""

    plan: Plan
    guider: Guider
    report: RunReport
    counter: PassCounter
    closing: ExitStack = field(default_factory=ExitStack)  # what is done when the run is over
    denoisers: Denoisers | None = None
    about: Run | None = None
    steps: Cursor | None = None
    followed: int = 0  # calls that `steps` has followed
    pipeline: PipelineRun | None = None
    terms: list[TermRun] = field(default_factory=list)
    asked: int = 0  # passes that CFG asked for
    expected: int = 0  # passes without leaving any out
    idle: int = 0  # calls of which no pass reached the network
    acted: bool = False  # whether CFG combined two predictions at any call
    forced: bool = False  # the sampler or another node asked for every pass
    noisy: bool | None = None  # whether the sampler adds noise at its steps; None where that cannot be told
    live: Throttle = field(default_factory=lambda: Throttle(INTERVAL))
    windows_a_call: int = 1  # as the last call had them that ran at all
    # of the call under way:
    call: Call = Call({})
    windows: set = field(default_factory=set)  # context windows that it ran
    adjusted: float | torch.Tensor | None = None  # the scale that methods made
    alone: dict[object, torch.Tensor] = field(default_factory=dict)  # last output that ran by itself, by window

    @property
    def passes(self) -> int:
        """Passes that CFG ran; those that it asked for where none could be seen."""
        return self.counter.own if self.seen else self.asked

    @property
    def seen(self) -> bool:
        """Whether passes are seen at all, or run somewhere out of sight."""
        return self.counter.own + self.counter.of_hooks > 0

    @property
    def timed(self) -> bool:
        """Whether calls are timed, for which a GPU must be waited for: where a judge of clean data acts."""
        return any(term.part.clean for term in self.terms)

    def begin_call(self, model_options: dict, call: Call) -> None:
        """Forget what belongs to the call before."""
        self.call, self.adjusted, self.denoisers.options = call, None, model_options
        self.alone.clear()
        self.windows.clear()
        self.counter.begin_call()

    def end(self) -> None:
        """Keep the counts of a run that came to its end."""
        self.report.passes, self.report.expected, self.report.finished = self.passes, self.expected, True

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


def opened(plan: Plan, guider: Guider, start: Start) -> HostRun:
    """A run of a plan with fresh state, noted in its journal; the guider is given the conditions of methods."""
    counter, packing = PassCounter(len(start.noise)), Packing(start.shapes)
    report = RunReport(type(guider).__name__, tuple(start.sigmas.tolist()))
    run = HostRun(plan, guider, report, counter)
    run.denoisers = Denoisers(guider, start, counter, run.closing)
    run.about = run_of(guider.model_patcher, start.sigmas, start.seed, record=run.combined, denoiser_of=run.denoisers)
    run.steps = Cursor(run.about)
    run.terms = [TermRun(part, run.about, report.events.append, packing) for part in plan.terms]
    if plan.cfg is not None:
        pipeline = plan.cfg.pipeline
        with speaking_as(plan.cfg.title, plan.cfg.node_id):
            check_connected(guider.model_patcher, pipeline.methods)
            packed = len(packing.shapes) > 1
            run.pipeline = PackedPipeline(pipeline, run.about, packing) if packed else pipeline.start(run.about)
        add_conditions(guider, pipeline.methods)
    plan.journal.runs.append(report)
    return run
