"""Runs a guidance plan inside ComfyUI's sampling.

A plan travels on the MODEL and is opened anew by every run, so nothing survives in the execution cache. Three wrappers
carry it: OUTER_SAMPLE opens and closes the run, PREDICT_NOISE guides one call of any guider, CALC_COND_BATCH fills in
for conditions that are left out.
"""

from functools import partial
from time import perf_counter

from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..ui.run_texts import speak, speak_meanwhile
from .denoisers import Start
from .guided_call import begin_call, end_call, guided_by_cfg
from .guiders import AS_IT_IS, overridden
from .host_run import HostRun, opened
from .noise_levels import remember
from .plan import KEY, RUN
from .sampler_noise import adds_noise
from .stand_ins import calc_cond_batch
from .usual_size import odd_size

OUTERMOST = "guidance_kit_outermost"


def _outer_sample(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    guider = executor.class_obj
    plan = guider.model_options.get(KEY)
    if plan is None or len(sigmas) < 2:
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    shapes = tuple(map(tuple, kwargs.get("latent_shapes") or [noise.shape]))
    start = Start(noise, latent_image, sigmas, *_mask_and_seed(*args, **kwargs), shapes)
    run = opened(plan, guider, start)
    run.odd = odd_size(guider.model_patcher, noise.shape)
    run.noisy = adds_noise(sampler)
    remember(guider.model_patcher, sigmas)
    guider.model_options[RUN] = run
    _place(run, guider.model_options["transformer_options"])
    loading = run.kind.loading(plan.cfg.pipeline, run.about) if run.pipeline else {}
    with run.closing, overridden(guider, loading):
        result = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    run.end()
    speak(run)
    return result


def _mask_and_seed(denoise_mask=None, callback=None, disable_pbar=False, seed=None, **more):
    """Two of the arguments of OUTER_SAMPLE that follow the noise levels, by place or by name."""
    return denoise_mask, seed


def _place(run: HostRun, transformer_options: dict) -> None:
    """Put what sees every call before the wrappers of other nodes, and what counts passes behind them.

    So terms act and calls are counted at every step, in whatever order a step cache and our nodes are wired. Where
    nobody comes between, CFG acts at once, and what has acted already is taken out: ComfyUI copies all at every call.
    """
    wrappers = transformer_options["wrappers"]
    outer = {key: each for key, each in wrappers.pop(WrappersMP.OUTER_SAMPLE, {}).items() if key != KEY}
    if outer:
        wrappers[WrappersMP.OUTER_SAMPLE] = outer
    inside = {key: each for key, each in wrappers.get(WrappersMP.PREDICT_NOISE, {}).items() if key != OUTERMOST}
    run.among_others = not inside.keys() <= {KEY}
    if not run.among_others:
        wrappers[WrappersMP.PREDICT_NOISE] = {OUTERMOST: [_predict_noise_alone]}
    else:
        wrappers[WrappersMP.PREDICT_NOISE] = {OUTERMOST: [_predict_noise], **inside}
    run.counter.watch(transformer_options)


def _predict_noise(executor, x, timestep, model_options=None, seed=None):
    """One call: counted, CFG inside, and the terms added to what comes of it."""
    model_options = model_options or {}
    run: HostRun | None = model_options.get(RUN)
    if run is None:
        return executor(x, timestep, model_options, seed)
    if run.report.events and run.live.due():  # now and then: this waits for the call before
        speak_meanwhile(run)
    if run.pipeline is not None:
        run.pipeline.begin(x, timestep)
    began = _ready(x) if run.timed else 0.0
    with overridden(run.guider, {"conds": _varied(run, x, timestep)}) if run.varieties else AS_IT_IS:
        begin_call(run, x, timestep, model_options)
        denoised = executor(x, timestep, model_options, seed)
        end_call(run, timestep)
    ran = run.timed and run.report.events[-1].passes > 0
    own = _ready(denoised) - began if ran else 0.0
    for term in run.terms_after:
        with run.running(term):
            denoised = term(denoised, x, timestep)
        if ran and term.now is not None:
            term.shares.append(term.seconds / own)
    return denoised


def _predict_noise_alone(executor, x, timestep, model_options=None, seed=None):
    """The same where CFG acts at once."""
    return _predict_noise(partial(_guide, executor), x, timestep, model_options, seed)


def _varied(run: HostRun, x: Tensor, timestep: Tensor) -> dict:
    """The guider's conditions at a call as varieties make them."""
    conds = run.guider.conds
    for variety in run.varieties:
        conds = variety(conds, x, timestep)
    return conds


def _ready(tensor: Tensor) -> float:
    """The time in seconds at which a tensor is there: to read of it is to wait for the device."""
    tensor.flatten()[0].item()
    return perf_counter()


def _guide(executor, x, timestep, model_options=None, seed=None):
    """CFG of one call, at its place among the nodes that set cfg."""
    run: HostRun | None = (model_options or {}).get(RUN)
    if run is None:
        return executor(x, timestep, model_options, seed)
    return guided_by_cfg(run, executor, x, timestep, model_options, seed)


WRAPPERS = {
    WrappersMP.OUTER_SAMPLE: _outer_sample,
    WrappersMP.PREDICT_NOISE: _guide,
    WrappersMP.CALC_COND_BATCH: calc_cond_batch,
}
