"""Runs a guidance plan inside ComfyUI's sampling.

A plan travels on the MODEL and is opened anew by every run, so nothing survives in the execution cache. Three wrappers
carry it: OUTER_SAMPLE opens and closes the run, PREDICT_NOISE guides one call of any guider, CALC_COND_BATCH fills in
for conditions that are left out.
"""

from itertools import pairwise

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ...guidance_core.cfg import Pipeline
from ...guidance_core.run import Run
from ..ui.run_texts import speak, speak_meanwhile
from .connections import active_parts
from .guided_call import guided_by_cfg
from .guiders import overridden
from .host_run import HostRun, opened
from .noise_levels import remember
from .plan import KEY, Plan

RUN = "guidance_kit_run"


def with_plan(model: ModelPatcher, plan: Plan) -> ModelPatcher:
    """A clone of MODEL that samples under the plan."""
    before, model = model.model_options.get(KEY), model.clone()
    model.model_options[KEY] = plan
    model.set_additional_models(KEY, plan.patchers)
    if before is not None and plan.cfg is before.cfg:
        return model  # of several nodes that set cfg the one nearest the sampler wins: do not come nearer
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, _outer_sample),
        (WrappersMP.PREDICT_NOISE, _predict_noise),
        (WrappersMP.CALC_COND_BATCH, _calc_cond_batch),
    ):
        model.remove_wrappers_with_key(kind, KEY)
        model.add_wrapper_with_key(kind, KEY, wrapper)
    return model


def _outer_sample(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    guider = executor.class_obj
    plan = guider.model_options.get(KEY)
    if plan is None or len(sigmas) < 2:
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    seed = kwargs.get("seed", args[3] if len(args) > 3 else None)
    run = opened(plan, guider, sigmas, seed)
    remember(guider.model_patcher, sigmas)
    guider.model_options[RUN] = run
    with overridden(guider, {"cfg": _loading_scale(plan.cfg.pipeline, run.about)} if run.pipeline else {}):
        result = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    run.end()
    speak(run)
    return result


def _loading_scale(pipeline: Pipeline, about: Run) -> float:
    """A cfg that tells a guider before the run whether its unconditional model will be needed at all."""
    between = [a + (b - a) * k / 8 for a, b in pairwise(about.sigmas) for k in range(8)]
    return next((scale for scale in map(pipeline.scale_over(about), between) if scale != 1), 1.0)


def _predict_noise(executor, x, timestep, model_options=None, seed=None):
    model_options = model_options or {}
    run: HostRun | None = model_options.get(RUN)
    if run is None:
        return executor(x, timestep, model_options, seed)
    run.begin_call(model_options)
    if run.report.events and run.live.due():  # now and then: this waits for the call before
        speak_meanwhile(run)
    if run.pipeline is not None:
        run.pipeline.begin(x, timestep)
    denoised = guided_by_cfg(run, lambda options: executor(x, timestep, options, seed), timestep, model_options)
    for term in run.terms:
        denoised = term(denoised, x, timestep)
    return denoised


def _calc_cond_batch(executor, model, conds, x_in, timestep, model_options):
    """Gives a condition that is left out or absent the positive's output, where ComfyUI leaves zeros.

    It has no weight in the guider's own result; samplers and hooks that read it see no guidance, not a black picture.
    """
    out = executor(model, conds, x_in, timestep, model_options)
    run: HostRun | None = model_options.get(RUN)
    if run is None or len(conds) > 1 and len(run.roles) != len(conds):
        return out
    present = [bool(active_parts(parts, timestep)) for parts in conds]
    if len(conds) == 1:  # a guider that runs its conditions one by one, the positive first
        if present[0]:
            run.alone = out[0]
        return out if present[0] or run.alone is None else [run.alone.clone()]
    stand_in = run.roles.index("positive")
    if not present[stand_in]:
        stand_in = present.index(True) if any(present) else stand_in
    return [each if there else out[stand_in].clone() for each, there in zip(out, present, strict=True)]
