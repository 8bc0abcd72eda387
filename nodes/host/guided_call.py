"""One call of a guider under a run's CFG pipeline: its scales are set, passes are left out, methods act."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ...guidance_core.cfg.pipeline import Add, nothing_added
from ...guidance_core.frozen import frozen
from ..ui.messages import speaking_as
from .conditions import active_parts, always_act, passes_of
from .guiders import AS_IT_IS, Call, overridden
from .hooks import HOOKS, only_nag_asks
from .host_run import HostRun
from .passes import GUIDER
from .plan import KEY, CfgEvent
from .stand_ins import watch_for_missing


def begin_call(run: HostRun, x: Tensor, timestep: Tensor, model_options: dict) -> None:
    """Decide on a call of the guider, whether it comes to it or a step cache fills in."""
    run.begin_call(x, timestep, model_options)
    conds = run.guider.conds
    if run.pipeline is None or run.same_as is not None and conds is run.same_as[0] and model_options is run.same_as[1]:
        return  # as the call before
    run.active = {role: active for role, parts in conds.items() if (active := active_parts(parts, timestep))}
    run.call = _call(run, timestep, model_options)
    run.asks = _asked(run, x, timestep)
    steady = run.pipeline.steady and not run.among_others and always_act(conds)
    run.same_as = (conds, model_options) if steady else None
    watch_for_missing(run, model_options, conds)


def end_call(run: HostRun, timestep: Tensor) -> None:
    """Keep account of the call that began last."""
    run.windows_a_call = len(run.windows) or run.windows_a_call
    passes, beside = run.counter.of_call
    run.idle += passes == 0
    if run.pipeline is not None:
        known = run.kind.known
        asked = run.asks[0] * run.windows_a_call if known else passes
        run.asked += asked
        run.expected += run.asks[1] * run.windows_a_call if known else passes
        run.acted |= run.call.combines
        passes = passes if run.seen else asked
    scale = getattr(run.guider, "cfg", 1.0) if run.call.scale is None else run.call.scale
    run.report.events.append(CfgEvent(timestep, scale, passes, run.adjusted, beside))
    run.report.events.extend(run.waiting)
    run.waiting = None


def guided_by_cfg(
    run: HostRun, predict: Callable[..., Tensor], x: Tensor, timestep: Tensor, model_options: dict, seed: int | None
) -> Tensor:
    """The guider's prediction, guided. predict: (x, timestep, model_options, seed) -> denoised, as it gives it."""
    guider, call = run.guider, run.call
    add = _Added(run, x, timestep) if run.terms_before_result else nothing_added
    model_options = run.counter.before_hooks(model_options)
    if run.pipeline is None:
        return add(predict(x, timestep, model_options, seed))
    combines = call.by_methods and not run.pipeline.plain
    inside = combines and run.kind.tames(guider)
    changed = call.on(guider)
    with overridden(guider, changed) if changed else AS_IT_IS:
        if combines:
            model_options = _with_method(run, model_options, add if inside else nothing_added)
        denoised = predict(x, timestep, model_options, seed)
    if inside or add is nothing_added:
        return denoised
    if call.methods and not call.combines:  # what is added to the positive's own prediction is adjusted all the same
        with speaking_as(run.plan.cfg.title, run.plan.cfg.node_id):
            return run.pipeline.combine(denoised, None, x, timestep, 1.0, add)
    return add(denoised)


@frozen
class _Added:
    """What terms add to one call before its result is adjusted (see packed.PartAdd)."""

    run: HostRun
    x: Tensor
    sigma: Tensor

    def __call__(self, guided: Tensor) -> Tensor:
        for term in self.run.terms_before_result:
            with self.run.running(term):
                guided = term(guided, self.x, self.sigma)
        return guided

    def to_part(self, i: int) -> Add:
        """What adds to part i of a packed latent."""

        def add(guided: Tensor) -> Tensor:
            x = self.run.packing.split(self.x)[i]
            for term in self.run.terms_before_result:
                with self.run.running(term):
                    guided = term.to_part(i, guided, x, self.sigma)
            return guided

        return add


def _call(run: HostRun, timestep: Tensor, model_options: dict) -> Call:
    """What the guider's kind sets at a level, less what the sampler or other nodes need."""
    call = run.kind.call(run.guider, run.pipeline, timestep, frozenset(run.active))
    if model_options.get("disable_cfg1_optimization", False):
        nag = bool(run.kind.roles) and only_nag_asks(model_options)
        if nag and run.pipeline.strength_at(timestep) == 0:
            return replace(call, without=call.without | call.skipped)  # without its negative it does nothing
        run.nag, run.forced = run.nag or nag, run.forced or not nag
        return replace(call, skipped=frozenset(), without=frozenset())
    if "positive" in call.without and any(model_options.get(hook) for hook in HOOKS):
        return replace(call, without=call.without - {"positive"})  # other nodes' hooks read it
    return call


def _asked(run: HostRun, x: Tensor, timestep: Tensor) -> tuple[int, int]:
    """The passes that a call asks for in one context window, and those that it would without any left out."""
    call = run.call
    passes = {role: passes_of(parts, x, timestep) for role, parts in run.active.items()}
    expected = sum(passes.values())
    left_out = call.left_out
    if not call.by_methods:
        left_out |= {role for role in passes if role.startswith(KEY)}  # run by methods, where they act
    asked = expected - sum([passes[role] for role in passes.keys() & left_out]) if left_out else expected
    if run.pipeline.replaces_uncond:  # the second model runs on the positive, in place of the negative
        positive = passes.get("positive", 0)
        asked += positive if call.by_methods else 0
        expected += positive - (passes.get("negative", 0) if "negative" in left_out else 0)
    return asked, expected


def _with_method(run: HostRun, model_options: dict, add: Add) -> dict:
    """model_options in which the pipeline's result replaces the guider's own, before the hooks of other nodes."""

    def combine(args):
        cond, uncond = run.kind.predictions(run.guider, args)
        with speaking_as(run.plan.cfg.title, run.plan.cfg.node_id), run.counter.by(GUIDER):
            return run.pipeline.combine(cond, uncond, args["input"], args["sigma"], args["cond_scale"], add)

    return {
        **model_options,
        "sampler_post_cfg_function": [combine, *model_options.get("sampler_post_cfg_function", [])],
    }
