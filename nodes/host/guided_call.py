"""One call of a guider under a run's CFG pipeline: its scales are set, passes are left out, methods act."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ..ui.messages import speaking_as
from .connections import active_parts
from .guiders import Call, kind_of, overridden
from .hooks import HOOKS
from .host_run import HostRun
from .plan import KEY, CfgEvent


def guided_by_cfg(run: HostRun, predict: Callable[[dict], Tensor], timestep: Tensor, model_options: dict) -> Tensor:
    """The guider's prediction, guided. predict: model_options -> denoised, as the guider gives it."""
    sigma, guider = timestep[0], run.guider
    if run.pipeline is None:
        denoised = predict(model_options)
        run.report.events.append(CfgEvent(sigma, getattr(guider, "cfg", 1.0)))
        return denoised
    before = run.passes
    active = {role: len(active_parts(parts, timestep)) for role, parts in guider.conds.items()}
    call = _call(run, sigma, active, model_options)
    _count(run, call, active)
    run.roles = kind_of(guider).roles
    conds = {role: None if role in call.without else parts for role, parts in guider.conds.items()}
    with overridden(guider, call.attributes | {"conds": conds}):
        if not run.pipeline.plain and call.methods and call.combines:
            model_options = _with_method(run, model_options)
        denoised = predict(model_options)
    run.report.events.append(CfgEvent(sigma, call.scale, run.passes - before, run.adjusted))
    return denoised


def _call(run: HostRun, sigma: Tensor, active: dict[str, int], model_options: dict) -> Call:
    """What the guider's kind sets, less what the sampler or other nodes need."""
    present = frozenset(role for role, parts in active.items() if parts)
    call = kind_of(run.guider).call(run.guider, run.pipeline, sigma, present)
    if model_options.get("disable_cfg1_optimization", False):
        run.forced = True
        return Call(call.attributes)
    if any(model_options.get(hook) for hook in HOOKS):
        return replace(call, without=call.without - {"positive"})  # other nodes' hooks read it
    return call


def _count(run: HostRun, call: Call, active: dict[str, int]) -> None:
    """Count the passes of a call, and those that a call without any left out would run."""
    beside = {role for role in active if role.startswith(KEY)}  # run by methods, which count them
    left_out = call.skipped | call.without
    run.expected += sum(active.values())
    if run.plan.cfg.pipeline.replaces_uncond:  # the second model runs on the positive, in place of the negative
        run.expected += active["positive"] - (active.get("negative", 0) if "negative" in left_out else 0)
    run.passes += sum(parts for role, parts in active.items() if role not in left_out | beside)


def _with_method(run: HostRun, model_options: dict) -> dict:
    """model_options in which the pipeline's result replaces the guider's own, before the hooks of other nodes."""
    kind = kind_of(run.guider)

    def combine(args):
        cond, uncond = kind.predictions(run.guider, args)
        with speaking_as(run.plan.cfg.title):
            return run.pipeline.combine(cond, uncond, args["input"], args["sigma"], args["cond_scale"])

    return {
        **model_options,
        "sampler_post_cfg_function": [combine, *model_options.get("sampler_post_cfg_function", [])],
    }
