"""What CFG means under each of ComfyUI's guiders: which of its attributes to set for the length of one call.

A guider reads its scales and conditions anew at every call. Setting them is the one way in which passes are skipped: a
scale of 1 or a condition of None is not run, and what is not run has no weight in the result.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...guidance_core.cfg import Pipeline, PipelineRun
from ...guidance_core.scale import effective_scale
from .hooks import HOOKS


class Guider(Protocol):
    """What is used of a guider of ComfyUI's: its model, its conditions by role, and the options of the run."""

    model_patcher: ModelPatcher
    model_options: dict
    original_conds: dict[str, list[dict]]  # as they were given
    conds: dict[str, list[dict]]  # as they are prepared for the run

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict, seed: int | None) -> Tensor:
        """The denoised prediction at one call, guided."""


@contextmanager
def overridden(guider: Guider, attributes: dict) -> Iterator[None]:
    """Set attributes of a guider for the length of a block."""
    before = {name: getattr(guider, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(guider, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(guider, name, value)


@dataclass(frozen=True)
class Call:
    """The guider's attributes for one call, and the conditions it leaves out.

    skipped: those the guider leaves out by itself under these attributes. without: those to take away from it as well.
    methods: whether the pipeline's methods act; without a positive there is nothing for them to work on.
    """

    attributes: dict[str, float]
    skipped: frozenset[str] = field(default_factory=frozenset)
    without: frozenset[str] = field(default_factory=frozenset)
    methods: bool = True

    @property
    def scale(self) -> float:
        """The scale to speak of: of two the first."""
        return self.attributes.get("cfg", self.attributes.get("cfg1", 1.0))

    @property
    def combines(self) -> bool:
        """Whether two predictions become one."""
        return any(name.startswith("cfg") and value != 1 for name, value in self.attributes.items())


Present = frozenset[str]  # the conditions that exist and are active at this noise level


class GuiderKind(ABC):
    """How one kind of guider is driven.

    runs: the qualified name of the predict_noise by which it is known: ComfyUI loads its extra nodes under module names
    of their own. roles: the order in which it hands its conditions to one batch of passes, where a left-out one may
    take the positive's output. hooks: those of other nodes that it runs.
    """

    runs: ClassVar[str] = ""
    roles: ClassVar[tuple[str, ...]] = ()
    hooks: ClassVar[frozenset[str]] = frozenset(HOOKS)

    @property
    def name(self) -> str:
        """The class that ComfyUI has for it."""
        return self.runs.partition(".")[0]

    @abstractmethod
    def call(self, guider: Guider, run: PipelineRun, sigma: Tensor, present: Present) -> Call:
        """What to set for a call at this noise level."""

    def predictions(self, guider: Guider, args: dict) -> tuple[Tensor, Tensor]:
        """The conditional and the unconditional prediction, from what a post-CFG hook is given."""
        return args["cond_denoised"], args["uncond_denoised"]

    def note(self, guider: Guider, pipeline: Pipeline) -> str:
        """What its user should know."""
        return ""


class CfgKind(GuiderKind):
    """KSampler's and CFG Guider, and Basic Guider, which has no negative."""

    runs = "CFGGuider.predict_noise"
    roles = ("positive", "negative")

    def call(self, guider, run, sigma, present):
        scale = run.scale_at(sigma)
        if "negative" not in present and run.passes(scale).uncond:
            scale = 1.0
        elif "positive" not in present:
            return Call({"cfg": 0.0}, methods=False)
        passes = run.passes(scale)
        without = {role for role, runs in (("positive", passes.cond), ("negative", passes.uncond)) if not runs}
        if scale == 1:
            return Call({"cfg": scale}, skipped=frozenset({"negative"}))  # the guider leaves it out by itself
        return Call({"cfg": scale}, without=frozenset(without))

    def note(self, guider, pipeline):
        if "negative" in guider.original_conds or pipeline.replaces_uncond:
            return ""
        return "This guider has no negative condition, so there is nothing to combine: CFG is off."


class DualModelKind(CfgKind):
    """Dual Model CFG Guider: the negative on a model of its own. It runs its conditions one by one."""

    runs = "Guider_DualModel.predict_noise"
    roles = ()
    hooks = frozenset(HOOKS) - {"sampler_pre_cfg_function"}

    def note(self, guider, pipeline):
        if not pipeline.replaces_uncond:
            return ""
        return (
            "The negative model of Dual Model CFG Guider is run for nothing, a method brings its own: use CFG Guider."
        )


class DualCfgKind(GuiderKind):
    """Dual CFG Guider: its own scales, cfg1 of positive against middle and cfg2 against negative.

    The schedule moves both.
    """

    runs = "Guider_DualCFG.predict_noise"
    roles = ("negative", "middle", "positive")
    hooks = frozenset(HOOKS) - {"sampler_pre_cfg_function"}

    def call(self, guider, run, sigma, present):
        strength = run.strength_at(sigma)
        cfg1, cfg2 = effective_scale(guider.cfg1, strength), effective_scale(guider.cfg2, strength)
        if "negative" not in present:
            cfg2 = 1.0
        if "middle" not in present:
            cfg1 = 1.0 if guider.nested else cfg2
        if "positive" not in present:
            cfg1 = 0.0
        weights = {"negative": 1 - cfg2}
        if guider.nested:
            weights |= {"middle": cfg2 * (1 - cfg1), "positive": cfg1 * cfg2}
        else:
            weights |= {"middle": abs(1 - cfg1) + abs(1 - cfg2), "positive": cfg1}
        without = frozenset(role for role, weight in weights.items() if weight == 0)
        return Call({"cfg1": cfg1, "cfg2": cfg2}, without=without)

    def note(self, guider, pipeline):
        note = "Dual CFG Guider: its own two scales are used, and the schedule moves both."
        if pipeline.stages:
            pair = "cond1 against cond2" if guider.nested else "cond2 against negative"
            note += f" The method acts on {pair}."
        return note


class PerpNegKind(GuiderKind):
    """Perp-Neg Guider: empty + scale * (positive - neg_scale * perpendicular part of negative).

    Both strengths follow the schedule.
    """

    runs = "Guider_PerpNeg.predict_noise"
    hooks = frozenset(HOOKS) - {"sampler_cfg_function"}

    def call(self, guider, run, sigma, present):
        scale, neg_scale = run.scale_at(sigma), guider.neg_scale * run.strength_at(sigma)
        if "positive" not in present:
            scale, neg_scale = 0.0, 0.0
        if "empty_negative_prompt" not in present:
            scale, neg_scale = 1.0, 0.0
        if "negative" not in present:
            neg_scale = 0.0
        if neg_scale != 0:
            return Call({"cfg": scale, "neg_scale": neg_scale})
        skipped = {"negative"} if scale != 1 else {"negative", "empty_negative_prompt"}
        return Call({"cfg": scale, "neg_scale": 0.0}, frozenset(skipped))

    def predictions(self, guider, args):
        """Perp-Neg's conditional, positive - neg_scale * perpendicular, and its empty prompt as the unconditional."""
        empty = args["empty_cond_denoised"]
        perp_neg = type(guider).predict_noise.__globals__["perp_neg"]  # the guider's own, loaded by ComfyUI from a path
        cond = perp_neg(args["input"], args["cond_denoised"], args["uncond_denoised"], empty, guider.neg_scale, 1.0)
        return cond, empty

    def note(self, guider, pipeline):
        if not any(method.name == "perp_neg" for method in pipeline.methods):
            return ""
        return (
            "Perp-Neg Guider does by itself what the method perp_neg does, with its own neg_scale: use one of the two."
        )


class UnknownKind(CfgKind):
    """A guider of another pack. It is driven by its cfg, and says so."""

    roles = ()

    def note(self, guider, pipeline):
        return f"{type(guider).__name__} is not one of ComfyUI's guiders: its cfg is set, its passes are its own."


KINDS = {kind.runs: kind for kind in (CfgKind(), DualModelKind(), DualCfgKind(), PerpNegKind())}
UNKNOWN = UnknownKind()


def kind_of(guider: Guider) -> GuiderKind:
    """The kind whose predict_noise this guider runs."""
    return KINDS.get(type(guider).predict_noise.__qualname__, UNKNOWN)


def not_running(hook: str) -> list[str]:
    """The guiders that do not run a hook, by their names."""
    return sorted(kind.name for kind in KINDS.values() if hook not in kind.hooks)
