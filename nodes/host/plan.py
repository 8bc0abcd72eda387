"""A guidance plan: what our nodes put on a MODEL, and the journal of the runs that were sampled under it."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...guidance_core.cfg import Pipeline
from ...guidance_core.frozen import frozen
from ...guidance_core.terms import Term, TermEvent
from ...guidance_core.terms.clean_guidance import CleanTerm
from ...guidance_core.terms.judged import JudgedTerm
from ...guidance_core.variety import Variety
from .. import host

KEY = "guidance_kit"
RUN = "guidance_kit_run"  # in the options of a run: its HostRun
KEPT_RUNS = 8


@frozen
class CfgPart:
    """The CFG pipeline on a MODEL, the node that speaks for it, and the models that its methods connect."""

    pipeline: Pipeline
    title: str
    node_id: str | None
    patchers: tuple[ModelPatcher, ...] = ()


@frozen
class TermPart:
    """A term on a MODEL, the patchers that keep its networks in memory, and the node that speaks for it."""

    term: Term
    patchers: tuple[ModelPatcher, ...]
    title: str
    node_id: str | None
    note: str = ""

    @property
    def judged(self) -> bool:
        """Whether it follows a classifier's gradient."""
        return isinstance(self.term, JudgedTerm)

    @property
    def name(self) -> str:
        """What it is called beside CFG."""
        return "Classifier" if self.judged else self.term.title

    @property
    def clean(self) -> bool:
        """Whether its classifier judges clean data."""
        return isinstance(self.term, CleanTerm)


@frozen
class VarietyPart:
    """A variety on a MODEL, and the node that speaks for it."""

    variety: Variety
    title: str
    node_id: str | None


class CfgEvent(NamedTuple):
    """One call of the model: noise level, CFG's scale, passes run, and the scale that methods made of it (or None).

    level: of a batch [B] the first counts. passes: of CFG. beside: those that terms ran, and hooks of other nodes.
    Tensors stay where they are until they are asked for: to read one is to wait for the device.
    """

    level: float | Tensor
    scale: float
    passes: int = 0
    adjusted: float | Tensor | None = None
    beside: int = 0

    @property
    def sigma(self) -> float:
        """The noise level as a number."""
        return float(self.level.flatten()[0] if isinstance(self.level, Tensor) else self.level)

    @property
    def by_methods(self) -> float | None:
        """The scale that methods made, its mean over the batch and the picture; None where none acted."""
        return float(self.adjusted.mean()) if isinstance(self.adjusted, Tensor) else self.adjusted


@frozen
class PartEvent:
    """What a term did at one call, with the part that it is of."""

    part: TermPart
    event: TermEvent


@dataclass
class RunReport:
    """What a run did: its guider and noise levels, every call with the terms after it, and what the nodes said."""

    guider: str
    sigmas: tuple[float, ...]
    events: list[CfgEvent | PartEvent] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    passes: int = 0  # that CFG ran
    expected: int = 0  # that it would have run without leaving any out
    finished: bool = False


class Journal:
    """The last runs that were sampled under a plan, oldest first. Written by runs, read by Guidance Report."""

    def __init__(self):
        self.runs: deque[RunReport] = deque(maxlen=KEPT_RUNS)

    @property
    def last(self) -> RunReport | None:
        """The newest run; None before the first."""
        return self.runs[-1] if self.runs else None


@frozen
class Plan:
    """All guidance on a MODEL."""

    cfg: CfgPart | None = None
    terms: tuple[TermPart, ...] = ()
    journal: Journal = field(default_factory=Journal)
    varieties: tuple[VarietyPart, ...] = ()

    @property
    def patchers(self) -> list[ModelPatcher]:
        """The models that must be loaded beside the MODEL itself."""
        parts = [*(self.cfg.patchers if self.cfg else ())]
        parts += [patcher for part in self.terms for patcher in part.patchers]
        return list(dict.fromkeys(parts))


def plan_of(model: ModelPatcher) -> Plan:
    """The plan a MODEL carries; an empty one when it carries none."""
    return model.model_options.get(KEY) or Plan()


def with_plan(model: ModelPatcher, plan: Plan) -> ModelPatcher:
    """A clone of MODEL that samples under the plan."""
    before, model = model.model_options.get(KEY), model.clone()
    model.model_options[KEY] = plan
    model.set_additional_models(KEY, plan.patchers)
    if before is not None and plan.cfg is before.cfg:
        return model  # of several nodes that set cfg the one nearest the sampler wins: do not come nearer
    for kind, wrapper in host.adapter.WRAPPERS.items():
        model.remove_wrappers_with_key(kind, KEY)
        model.add_wrapper_with_key(kind, KEY, wrapper)
    return model
