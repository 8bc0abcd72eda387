"""Outputs for conditions that a call leaves out or does not have.

They have no weight in the guider's own result; samplers and hooks that read them see no guidance, not a black picture.
"""

from comfy.patcher_extension import WrappersMP

from .conditions import active_parts, always_act, window_of
from .host_run import HostRun
from .plan import KEY, RUN

TAKE_OUT = {"context_handler", "sampler_calc_cond_batch_function"}  # options under which others choose what runs


def calc_cond_batch(executor, model, conds, x_in, timestep, model_options):
    """Gives a condition that is left out or absent the positive's output, where ComfyUI leaves zeros."""
    out = executor(model, conds, x_in, timestep, model_options)
    run: HostRun | None = model_options.get(RUN)
    if run is None or not run.counter.of_guider:
        return out  # what other nodes' hooks and terms run for themselves is theirs
    window = window_of(model_options)
    run.windows.add(window)
    if window is None:
        run.denoisers.ran(conds, out)
    present = [bool(active_parts(parts, timestep)) for parts in conds]
    if len(conds) == 1:  # a guider that runs its conditions one by one, the positive first
        return [_alone(run, out[0], present[0], window)]
    roles = run.kind.roles
    if len(roles) != len(conds) or all(present):
        return out
    stand_in = roles.index("positive")
    if not present[stand_in]:
        stand_in = present.index(True) if any(present) else stand_in
    return [each if there else out[stand_in].clone() for each, there in zip(out, present, strict=True)]


def watch_for_missing(run: HostRun, model_options: dict, conds: dict[str, list[dict]]) -> None:
    """Have the calls that begin here ask for stand-ins, unless none can be missing: at each call that takes time."""
    wrappers = model_options["transformer_options"]["wrappers"].setdefault(WrappersMP.CALC_COND_BATCH, {})
    others = wrappers.keys() - {KEY} or model_options.keys() & TAKE_OUT
    if others or not _nothing_missing(run, conds):
        wrappers[KEY] = [calc_cond_batch]
    else:
        wrappers.pop(KEY, None)


def _nothing_missing(run: HostRun, conds: dict[str, list[dict]]) -> bool:
    """Whether each condition runs at the call under way, and none of their outputs is asked for afterwards."""
    plan = run.plan
    if plan.terms or plan.varieties or not run.pipeline.plain or run.call.left_out:
        return False
    return {*conds, *run.kind.roles} <= run.active.keys() and always_act(conds)


def _alone(run: HostRun, out, present: bool, window: object):
    """The output of a condition that ran by itself, or in its stead the last one in the same window."""
    if present:
        run.alone[window] = out
    elif window in run.alone:
        return run.alone[window].clone()
    return out
