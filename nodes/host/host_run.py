"""One sampling run of a plan under a guider: what it has asked for, what it has seen, and what of it is kept."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch

from ...guidance_core.cfg import PipelineRun, ScaleEvent
from ...guidance_core.run import Cursor, Run
from ...guidance_core.throttle import Throttle
from ..ui.live import INTERVAL
from ..ui.messages import speaking_as
from .connections import check_connected
from .denoisers import Denoisers, Start, add_conditions
from .guider_kinds import kind_of
from .guiders import Call, Guider, GuiderKind
from .model_facts import run_of
from .packed import PackedPipeline, Packing
from .passes import TERMS, PassCounter
from .plan import PartEvent, Plan, RunReport
from .term_run import TermRun
from .variety import VarietyRun


@dataclass
class HostRun:
    """The state of a run, and of the call of the guider that is under way."""

    plan: Plan
    guider: Guider
    report: RunReport
    counter: PassCounter
    packing: Packing
    closing: ExitStack = field(default_factory=ExitStack)  # what is done when the run is over
    denoisers: Denoisers | None = None
    about: Run | None = None
    steps: Cursor | None = None
    followed: int = 0  # calls that `steps` has followed
    pipeline: PipelineRun | None = None
    terms: list[TermRun] = field(default_factory=list)
    varieties: list[VarietyRun] = field(default_factory=list)
    asked: int = 0  # passes that CFG asked for
    expected: int = 0  # passes without leaving any out
    idle: int = 0  # calls of which no pass reached the network
    acted: bool = False  # whether CFG combined two predictions at any call
    forced: bool = False  # the sampler or another node asked for every pass
    nag: bool = False  # Normalized Attention Guidance acted, and alone asked for them
    odd: str = ""  # what is to be said of the size of the pictures
    noisy: bool | None = None  # whether the sampler adds noise at its steps; None where that cannot be told
    live: Throttle = field(default_factory=lambda: Throttle(INTERVAL))
    windows_a_call: int = 1  # as the last call had them that ran at all
    among_others: bool = True  # other nodes' wrappers come between its calls and the guider
    same_as: tuple[dict, dict] | None = None  # the guider's conditions and options under which calls are all alike
    # of the call under way:
    call: Call = Call({})
    windows: set = field(default_factory=set)  # context windows that it ran
    adjusted: float | torch.Tensor | None = None  # the scale that methods made
    alone: dict[object, torch.Tensor] = field(default_factory=dict)  # last output that ran by itself, by window
    active: dict[str, list[dict]] = field(default_factory=dict)  # the parts of its conditions that act, by role
    asks: tuple[int, int] = (0, 0)  # its passes in one context window, and those without leaving any out
    waiting: list[PartEvent] | None = None  # what terms did inside of it, to be noted after CFG
    positive: torch.Tensor | None = None  # the prediction under the positive, once it was asked for

    @property
    def passes(self) -> int:
        """Passes that CFG ran; those that it asked for where none could be seen."""
        return self.counter.own if self.seen else self.asked

    @property
    def seen(self) -> bool:
        """Whether passes are seen at all, or run somewhere out of sight."""
        return self.counter.own > 0 or self.counter.beside > 0

    @cached_property
    def kind(self) -> GuiderKind:
        """What CFG means under its guider."""
        return kind_of(self.guider)

    @cached_property
    def timed(self) -> bool:
        """Whether calls are timed, for which a GPU must be waited for: where a judge of clean data acts."""
        return any(term.part.clean for term in self.terms)

    @cached_property
    def terms_before_result(self) -> list[TermRun]:
        """The terms that are added before CFG's methods adjust the result."""
        return [term for term in self.terms if term.part.term.before_result]

    @cached_property
    def terms_after(self) -> list[TermRun]:
        """The terms that are added to all that comes of CFG."""
        return [term for term in self.terms if not term.part.term.before_result]

    def begin_call(self, x: torch.Tensor, sigma: torch.Tensor, model_options: dict) -> None:
        """Forget what belongs to the call before."""
        self.adjusted, self.positive, self.waiting = None, None, []
        self.denoisers.begin_call(model_options)
        for term in self.terms:
            term.begin(x, sigma)
        self.alone.clear()
        self.windows.clear()
        self.counter.begin_call()

    def end(self) -> None:
        """Keep the counts of a run that came to its end."""
        self.report.passes, self.report.expected, self.report.finished = self.passes, self.expected, True

    @contextmanager
    def running(self, term: TermRun) -> Iterator[None]:
        """Passes inside the block are the term's."""
        before = self.counter.of_terms
        with self.counter.by(TERMS):
            yield
        term.passes += self.counter.of_terms - before

    def noted(self, event: PartEvent) -> None:
        """Note what a term did: after CFG of the same call, where it acts inside of it."""
        (self.report.events if self.waiting is None else self.waiting).append(event)

    def conditional(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor | None:
        """The prediction under the positive at the call under way, run once at most."""
        if self.positive is None:
            self.positive = self.denoisers.positive(x, sigma)
        return self.positive

    def combined(self, event: ScaleEvent) -> None:
        """Note the scale of a combination."""
        self.adjusted = event.scale


def opened(plan: Plan, guider: Guider, start: Start) -> HostRun:
    """A run of a plan with fresh state, noted in its journal; the guider is given the conditions of methods."""
    counter, packing = PassCounter(len(start.noise)), Packing(start.shapes)
    report = RunReport(type(guider).__name__, tuple(start.sigmas.tolist()))
    run = HostRun(plan, guider, report, counter, packing)
    run.denoisers = Denoisers(guider, start, counter, run.closing)
    run.about = run_of(
        guider.model_patcher,
        start.sigmas,
        start.seed,
        record=run.combined,
        denoiser_of=run.denoisers,
        conditional=run.conditional,
    )
    run.steps = Cursor(run.about)
    for part in plan.terms:
        with speaking_as(part.title, part.node_id):
            check_connected(guider.model_patcher, [part.term])
    run.varieties = [VarietyRun(part, run.about) for part in plan.varieties]
    run.terms = [TermRun(part, run.about, run.noted, packing) for part in plan.terms]
    if plan.cfg is not None:
        pipeline = plan.cfg.pipeline
        with speaking_as(plan.cfg.title, plan.cfg.node_id):
            check_connected(guider.model_patcher, pipeline.methods)
            packed = len(packing.shapes) > 1
            run.pipeline = PackedPipeline(pipeline, run.about, packing) if packed else pipeline.start(run.about)
        add_conditions(guider, pipeline.methods)
    plan.journal.runs.append(report)
    return run
