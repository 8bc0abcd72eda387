"""What CFG means under each of ComfyUI's guiders: which of its attributes to set for the length of one call.

A guider reads its scales and conditions anew at every call. Setting them is the one way in which passes are skipped: a
scale of 1 or a condition of None is not run, and what is not run has no weight in the result.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ...guidance_core.cfg import Pipeline, PipelineRun
from ...guidance_core.scale import effective_scale


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


Present = frozenset[str]  # the conditions that exist and are active at this noise level


def _cfg(guider, run: PipelineRun, sigma: Tensor, present: Present) -> Call:
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


def _perp_neg(guider, run: PipelineRun, sigma: Tensor, present: Present) -> Call:
    """empty + scale * (positive - neg_scale * perpendicular part of negative); both strengths follow the schedule."""
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


def _dual_cfg(guider, run: PipelineRun, sigma: Tensor, present: Present) -> Call:
    """The guider's own scales: cfg1 of positive against middle, cfg2 against negative. The schedule moves both."""
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


def _same_output(args: dict) -> tuple[Tensor, Tensor]:
    return args["cond_denoised"], args["uncond_denoised"]


@dataclass(frozen=True)
class GuiderKind:
    """How one kind of guider is driven.

    roles: the order in which it hands its conditions to one batch of passes, where a left-out one may take the
    positive's output. note: what its user should know.
    """

    call: Callable[..., Call]
    roles: tuple[str, ...] = ()
    predictions: Callable[[dict], tuple[Tensor, Tensor]] = _same_output
    note: Callable[[object, Pipeline], str] = lambda guider, pipeline: ""


def _dual_cfg_note(guider, pipeline: Pipeline) -> str:
    note = "Dual CFG Guider: its own two scales are used, and the schedule moves both."
    if pipeline.stages:
        pair = "cond1 against cond2" if guider.nested else "cond2 against negative"
        note += f" The method acts on {pair}."
    return note


def _perp_neg_output(args: dict) -> tuple[Tensor, Tensor]:
    """Perp-Neg's conditional, positive - neg_scale * perpendicular, and its empty prompt as the unconditional."""
    guider = args["guider"]
    empty = args["empty_cond_denoised"]
    perp_neg = type(guider).predict_noise.__globals__["perp_neg"]  # the guider's own, loaded by ComfyUI from a path
    cond = perp_neg(args["input"], args["cond_denoised"], args["uncond_denoised"], empty, guider.neg_scale, 1.0)
    return cond, empty


def _perp_neg_note(guider, pipeline: Pipeline) -> str:
    if not any(method.name == "perp_neg" for method in pipeline.methods):
        return ""
    return "Perp-Neg Guider does by itself what the method perp_neg does, with its own neg_scale: use one of the two."


def _dual_model_note(guider, pipeline: Pipeline) -> str:
    if not pipeline.replaces_uncond:
        return ""
    return "The negative model of Dual Model CFG Guider is run for nothing, a method brings its own: use CFG Guider."


def _basic_note(guider, pipeline: Pipeline) -> str:
    if "negative" in guider.original_conds or pipeline.replaces_uncond:
        return ""
    return "This guider has no negative condition, so there is nothing to combine: CFG is off."


KINDS = {  # by the qualified name of predict_noise: ComfyUI loads its extra nodes under module names of their own
    "CFGGuider.predict_noise": GuiderKind(_cfg, ("positive", "negative"), note=_basic_note),
    "Guider_DualModel.predict_noise": GuiderKind(_cfg, note=_dual_model_note),
    "Guider_DualCFG.predict_noise": GuiderKind(_dual_cfg, ("negative", "middle", "positive"), note=_dual_cfg_note),
    "Guider_PerpNeg.predict_noise": GuiderKind(_perp_neg, predictions=_perp_neg_output, note=_perp_neg_note),
}


def kind_of(guider) -> GuiderKind:
    """The kind whose predict_noise this guider runs. Any other guider is driven by its cfg, and says so."""
    known = KINDS.get(type(guider).predict_noise.__qualname__)
    name = type(guider).__name__
    return known or GuiderKind(
        _cfg,
        note=lambda guider, pipeline: (
            f"{name} is not one of ComfyUI's guiders: its cfg is set, its passes are its own."
        ),
    )
