"""Runs a guidance plan inside ComfyUI's sampling.

A plan travels on the MODEL and is opened anew by every run, so nothing survives in the execution cache. Three wrappers
carry it: OUTER_SAMPLE opens and closes the run, PREDICT_NOISE guides one call of any guider, CALC_COND_BATCH fills in
for conditions that are left out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ...guidance_core.cfg import PipelineRun, ScaleEvent
from ...guidance_core.paths import VE
from ...guidance_core.run import Run
from ...guidance_core.terms.classifier_guidance import TermEvent
from ...guidance_core.throttle import Throttle
from ..ui.live import INTERVAL, call_now, sure, term_now
from ..ui.messages import say, speaking_as
from .connections import active_parts, check_connected, conditions_of, denoiser_of
from .guiders import Call, kind_of
from .hooks import HOOKS, hook_names, unread_hooks
from .model_facts import ModelOutput, path_of, percent_of
from .noise_levels import remember
from .plan import KEY, CfgEvent, PartEvent, Plan, RunReport, TermPart

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


class TermRun:
    """One run of a classifier term, and what it has seen so far."""

    def __init__(self, part: TermPart, run: Run, record: Callable[[object], None]):
        self.part, self.gradients = part, 0
        self.last: PartEvent | None = None
        self.now: PartEvent | None = None  # of the call under way, or the one just done
        self._record = record
        with speaking_as(part.title):
            self._guided = part.term.start(replace(run, record=self._seen))

    def __call__(self, denoised, x, sigma):
        self.now = None
        with speaking_as(self.part.title):
            return self._guided(denoised, x, sigma)

    def _seen(self, event: TermEvent) -> None:
        self.gradients += 1
        self.last = self.now = PartEvent(**vars(event), part=self.part)
        self._record(self.now)

    def report(self) -> list[str]:
        """What the term did, in a few lines for the node."""
        if self.last is None:
            return ["Classifier not run: its strength was 0 at every step."]
        last = sure(self.last.log_prob, self.part.term.classifier.head)
        lines = [f"{self.gradients} gradients, {last} at the last."]
        if self.last.passes > 1:
            lines.append(f"Memory did not hold the whole batch: each gradient took {self.last.passes} passes.")
        return [*lines, *filter(None, [self.part.note])]


@dataclass
class HostRun:
    """One sampling run of a plan under a guider."""

    plan: Plan
    report: RunReport
    about: Run | None = None
    pipeline: PipelineRun | None = None
    terms: list[TermRun] = field(default_factory=list)
    passes: int = 0  # that CFG asks for
    expected: int = 0  # that CFG would ask for without leaving any out
    forced: bool = False  # the sampler or another node asked for every pass
    live: Throttle = field(default_factory=lambda: Throttle(INTERVAL))
    # of the call under way:
    options: dict = field(default_factory=dict)
    roles: tuple[str, ...] = ()  # of its batch of passes
    adjusted: float | torch.Tensor | None = None  # the scale that methods made
    alone: torch.Tensor | None = None  # output of its last pass that ran by itself

    def ran(self, parts: int) -> None:
        """Count passes that a method runs beside the guider's."""
        self.passes += parts

    def combined(self, event: ScaleEvent) -> None:
        """Note the scale of a combination."""
        self.adjusted = event.scale


def run_of(model: ModelPatcher, sigmas: torch.Tensor, seed: int | None = None, **more) -> Run:
    """What the core needs to know of a run of this MODEL."""
    return Run(
        path_of(model) or VE,
        tuple(sigmas.tolist()),
        seed=seed or 0,
        percent=percent_of(model),
        output=ModelOutput(model.get_model_object("model_sampling")),
        **more,
    )


def _open(plan: Plan, guider, sigmas: torch.Tensor, seed: int | None) -> HostRun:
    report = RunReport(type(guider).__name__, tuple(sigmas.tolist()))
    run = HostRun(plan, report)
    run.about = about = run_of(
        guider.model_patcher,
        sigmas,
        seed,
        record=run.combined,
        denoiser_of=denoiser_of(guider, lambda: run.options, run.ran),
    )
    run.terms = [TermRun(part, about, report.events.append) for part in plan.terms]
    if plan.cfg is not None:
        with speaking_as(plan.cfg.title):
            check_connected(guider.model_patcher, plan.cfg.pipeline.methods)
            run.pipeline = plan.cfg.pipeline.start(about)
        guider.conds = {**guider.conds, **conditions_of(plan.cfg.pipeline.methods)}
    plan.journal.runs.append(report)
    return run


def _outer_sample(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    guider = executor.class_obj
    plan = guider.model_options.get(KEY)
    if plan is None or len(sigmas) < 2:
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    seed = kwargs.get("seed", args[3] if len(args) > 3 else None)
    run = _open(plan, guider, sigmas, seed)
    remember(guider.model_patcher, sigmas)
    guider.model_options[RUN] = run
    with _overridden(guider, {"cfg": _loading_scale(run.pipeline, sigmas)} if run.pipeline else {}):
        result = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    run.report.passes, run.report.expected, run.report.finished = run.passes, run.expected, True
    _speak(run, guider)
    return result


def _loading_scale(pipeline: PipelineRun, sigmas: torch.Tensor) -> float:
    """A cfg that tells a guider before the run whether its unconditional model will be needed at all."""
    steps = sigmas.tolist()
    between = [a + (b - a) * k / 8 for a, b in zip(steps, steps[1:], strict=False) for k in range(8)]
    return next((scale for scale in map(pipeline.scale_at, between) if scale != 1), 1.0)


def _predict_noise(executor, x, timestep, model_options=None, seed=None):
    guider = executor.class_obj
    model_options = model_options or {}
    run: HostRun | None = model_options.get(RUN)
    if run is None:
        return executor(x, timestep, model_options, seed)
    run.options, run.adjusted, run.alone = model_options, None, None
    if run.report.events and run.live.due():  # now and then: this waits for the call before
        _speak_meanwhile(run)
    denoised = _guided_by_cfg(run, executor, guider, x, timestep, model_options, seed)
    for term in run.terms:
        denoised = term(denoised, x, timestep)
    return denoised


def _guided_by_cfg(run: HostRun, executor, guider, x, timestep, model_options, seed):
    sigma = timestep[0]
    if run.pipeline is None:
        denoised = executor(x, timestep, model_options, seed)
        run.report.events.append(CfgEvent(sigma, getattr(guider, "cfg", 1.0)))
        return denoised
    kind, before = kind_of(guider), run.passes
    active = {role: len(active_parts(parts, timestep)) for role, parts in guider.conds.items()}
    beside = {role for role in active if role.startswith(KEY)}  # run by methods, which count them
    call: Call = kind.call(guider, run.pipeline, sigma, frozenset(role for role, parts in active.items() if parts))
    if model_options.get("disable_cfg1_optimization", False):
        run.forced, call = True, Call(call.attributes)
    elif any(model_options.get(hook) for hook in HOOKS):
        call = replace(call, without=call.without - {"positive"})  # other nodes' hooks read it
    left_out = call.skipped | call.without | beside
    run.expected += sum(active.values())
    if run.plan.cfg.pipeline.replaces_uncond:  # the second model runs on the positive, in place of the negative
        run.expected += active["positive"] - (
            active.get("negative", 0) if "negative" in call.without | call.skipped else 0
        )
    run.passes += sum(parts for role, parts in active.items() if role not in left_out)
    run.roles = kind.roles
    conds = {role: None if role in call.without else parts for role, parts in guider.conds.items()}
    with _overridden(guider, call.attributes | {"conds": conds}):
        if not run.pipeline.plain and call.methods and _combines(call):
            model_options = _with_method(run.pipeline, run.plan.cfg.title, kind, guider, model_options)
        denoised = executor(x, timestep, model_options, seed)
    scale = call.attributes.get("cfg", call.attributes.get("cfg1", 1.0))
    run.report.events.append(CfgEvent(sigma, scale, run.passes - before, run.adjusted))
    return denoised


def _combines(call: Call) -> bool:
    return any(name.startswith("cfg") and value != 1 for name, value in call.attributes.items())


def _with_method(pipeline: PipelineRun, title: str, kind, guider, model_options: dict) -> dict:
    """model_options in which the pipeline's result replaces the guider's own, before the hooks of other nodes."""

    def combine(args):
        cond, uncond = kind.predictions({**args, "guider": guider})
        with speaking_as(title):
            return pipeline.combine(cond, uncond, args["input"], args["sigma"], args["cond_scale"])

    return {
        **model_options,
        "sampler_post_cfg_function": [combine, *model_options.get("sampler_post_cfg_function", [])],
    }


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


@contextmanager
def _overridden(guider, attributes: dict) -> Iterator[None]:
    """Set attributes of a guider for the length of a block."""
    before = {name: getattr(guider, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(guider, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(guider, name, value)


def _speak(run: HostRun, guider) -> None:
    """Show on each node of the plan what it did in a run."""
    for node_id, said in _by_node(run, lambda: _cfg_report(run, guider), TermRun.report).items():
        run.report.lines.extend(said)
        say(node_id, "\n".join(said))


def _speak_meanwhile(run: HostRun) -> None:
    """Show on each node of the plan what its last call did, while the run goes on."""
    last = next(event for event in reversed(run.report.events) if isinstance(event, CfgEvent))
    step = f"Step {int(run.about.step(last.sigma)) + 1} of {len(run.about.levels)}"
    said = _by_node(run, lambda: [call_now(last, run.passes, run.expected)], lambda term: [term_now(term.now)])
    for node_id, lines in said.items():
        say(node_id, "\n".join([step, *lines]))


def _by_node(
    run: HostRun, of_cfg: Callable[[], list[str]], of_term: Callable[[TermRun], list[str]]
) -> dict[str | None, list[str]]:
    """What CFG and each term say, by the node that speaks for them."""
    lines: dict[str | None, list[str]] = {}
    if run.plan.cfg is not None:
        lines.setdefault(run.plan.cfg.node_id, []).extend(of_cfg())
    for term in run.terms:
        lines.setdefault(term.part.node_id, []).extend(of_term(term))
    return lines


def _cfg_report(run: HostRun, guider) -> list[str]:
    """What CFG did in a run, in a few lines for the node."""
    lines = [f"CFG: {run.passes} of {run.expected} passes run."]
    if note := kind_of(guider).note(guider, run.plan.cfg.pipeline):
        lines.append(note)
    if run.forced:
        lines.append("The sampler or another node needs both passes at every step, so none are skipped.")
    replaced = hook_names(guider.model_options, "sampler_cfg_function")
    if not run.pipeline.plain and replaced:
        lines.append(
            f"The CFG function of {' and '.join(replaced)} is replaced by the method here; remove one of them."
        )
    return [*lines, *unread_hooks(guider)]
