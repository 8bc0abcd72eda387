"""What CFG means under each of ComfyUI's guiders, one class a kind."""

from functools import lru_cache

from ...guidance_core.cfg import Passes
from ...guidance_core.scale import effective_scale
from .guiders import Call, Guider, GuiderKind, Present
from .hooks import HOOKS


class CfgKind(GuiderKind):
    """KSampler's and CFG Guider, and Basic Guider, which has no negative."""

    runs = "CFGGuider.predict_noise"
    scaled_by = "CFGGuider.set_cfg"
    roles = ("positive", "negative")
    hooks = frozenset(HOOKS)

    def call(self, guider, run, sigma, present):
        scale = run.scale_at(sigma)
        return _call_at(scale, run.passes(scale), present)

    def note(self, guider, pipeline):
        if "negative" in guider.original_conds or pipeline.replaces_uncond:
            return ""
        return "This guider has no negative condition, so there is nothing to combine: CFG is off."


@lru_cache(maxsize=1024)
def _call_at(scale: float, passes: Passes, present: Present) -> Call:
    """A call at this scale; most calls of a run are alike."""
    if "negative" not in present and passes.uncond:
        scale = 1.0
    elif "positive" not in present:
        return Call({"cfg": 0.0}, methods=False)
    if scale == 1:
        return Call({"cfg": scale}, skipped=frozenset({"negative"}))  # the guider leaves it out by itself
    without = {role for role, runs in (("positive", passes.cond), ("negative", passes.uncond)) if not runs}
    return Call({"cfg": scale}, without=frozenset(without))


class DualModelKind(CfgKind):
    """Dual Model CFG Guider: the negative on a model of its own. It runs its conditions one by one."""

    runs = "Guider_DualModel.predict_noise"
    scaled_by = "CFGGuider.set_cfg"
    roles = ()
    hooks = GuiderKind.hooks - {"sampler_pre_cfg_function"}

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
    scaled_by = "Guider_DualCFG.set_cfg"
    roles = ("negative", "middle", "positive")
    hooks = GuiderKind.hooks - {"sampler_pre_cfg_function"}

    def tames(self, guider):
        return not guider.nested  # there it is multiplied by the outer scale

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
    scaled_by = "Guider_PerpNeg.set_cfg"
    hooks = GuiderKind.hooks - {"sampler_cfg_function"}

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


class UnknownKind(GuiderKind):
    """A guider of another pack or of a newer ComfyUI: its scales are its own, and nothing of it is set."""

    known = False

    def loading(self, pipeline, run):
        return {}

    def call(self, guider, run, sigma, present):
        return Call({}, methods=False)

    def note(self, guider, pipeline):
        return (
            f"{type(guider).__name__} is not one of the guiders known here. Its scales are its own and stay as they "
            f"are: CFG Combine does nothing. Use CFG Guider."
        )


KINDS = (CfgKind(), DualModelKind(), DualCfgKind(), PerpNegKind())
UNKNOWN = UnknownKind()


def kind_of(guider: Guider) -> GuiderKind:
    """The kind whose predict_noise and set_cfg this guider has."""
    runs, scaled_by = type(guider).predict_noise.__qualname__, type(guider).set_cfg.__qualname__
    return next((kind for kind in KINDS if (kind.runs, kind.scaled_by) == (runs, scaled_by)), UNKNOWN)


def not_running(hook: str) -> list[str]:
    """The guiders that do not run a hook, by their names."""
    return sorted(kind.name for kind in KINDS if hook not in kind.hooks)
