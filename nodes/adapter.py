"""Runs a guidance plan inside ComfyUI's sampling: the only reader of its hook dictionaries.

A plan travels on the MODEL and is opened anew by every run, so nothing survives in the execution cache. Three wrappers
carry it: OUTER_SAMPLE opens and closes the run, PREDICT_NOISE guides one call of any guider, CALC_COND_BATCH fills in
for conditions that are left out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ..guidance_core.cfg import Pipeline, PipelineRun
from ..guidance_core.classifier.term import ClassifierTerm, TermEvent
from ..guidance_core.errors import GuidanceError
from ..guidance_core.paths import FLOW, VE, Path
from ..guidance_core.run import Run
from ..guidance_core.spaces import Space
from .guider_kinds import Call, kind_of
from .messages import say, speaking_as

KEY = "guidance_kit"
RUN = "guidance_kit_run"
HOOKS = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")


@dataclass(frozen=True)
class CfgPart:
    """The CFG pipeline on a MODEL, and the node that speaks for it."""

    pipeline: Pipeline
    title: str
    node_id: str | None


@dataclass(frozen=True)
class TermPart:
    """A classifier term on a MODEL, the patcher that keeps its network in memory, and the node that speaks for it."""

    term: ClassifierTerm
    patcher: ModelPatcher
    title: str
    node_id: str | None
    note: str = ""


@dataclass(frozen=True)
class CfgEvent:
    """One call under CFG: the noise level and the effective scale."""

    sigma: float
    scale: float


@dataclass(frozen=True)
class Plan:
    """All guidance on a MODEL. record is called with every CfgEvent, and with every TermEvent of the last term."""

    cfg: CfgPart | None = None
    terms: tuple[TermPart, ...] = ()
    record: Callable[[object], None] = lambda event: None


EMPTY = Plan()


def plan_of(model: ModelPatcher) -> Plan:
    """The plan a MODEL carries; EMPTY when it carries none."""
    return model.model_options.get(KEY, EMPTY)


def with_plan(model: ModelPatcher, plan: Plan) -> ModelPatcher:
    """A clone of MODEL that samples under the plan."""
    before, model = plan_of(model), model.clone()
    model.model_options[KEY] = plan
    model.set_additional_models(KEY, [part.patcher for part in plan.terms])
    if plan.cfg is before.cfg and before is not EMPTY:
        return model  # of several nodes that set cfg the one nearest the sampler wins: do not come nearer
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, _outer_sample),
        (WrappersMP.PREDICT_NOISE, _predict_noise),
        (WrappersMP.CALC_COND_BATCH, _calc_cond_batch),
    ):
        model.remove_wrappers_with_key(kind, KEY)
        model.add_wrapper_with_key(kind, KEY, wrapper)
    return model


def path_of(model: ModelPatcher) -> Path | None:
    """The noise path on which ComfyUI samples this model, read off what it does; None for one that has no name here."""
    noise_scaling = model.get_model_object("model_sampling").noise_scaling
    sigma, one, zero = torch.tensor([0.5]), torch.ones(1), torch.zeros(1)
    levels = (float(noise_scaling(sigma, zero, one)), float(noise_scaling(sigma, one, zero)))  # alpha, sigma
    return {(1.0, 0.5): VE, (0.5, 0.5): FLOW}.get(levels)


@dataclass(frozen=True)
class ModelOutput(Space):
    """The space of a model's own output, whatever it is: ComfyUI's conversion to denoised is linear in x and output."""

    model_sampling: object

    def coefficients(self, sigma, path):
        one, zero = torch.ones_like(sigma), torch.zeros_like(sigma)
        denoised = self.model_sampling.calculate_denoised
        return denoised(sigma, zero, one), -denoised(sigma, one, zero)


def percent_of(model: ModelPatcher) -> Callable[[float], float]:
    """sigma -> timestep percent, the inverse of the model's percent_to_sigma."""
    to_sigma = model.get_model_object("model_sampling").percent_to_sigma

    def percent(sigma: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if float(to_sigma(middle)) > sigma else (low, middle)
        return (low + high) / 2

    return percent


class TermRun:
    """One run of a classifier term, and what it has seen so far."""

    def __init__(self, part: TermPart, run: Run, record: Callable[[object], None]):
        self.part, self.gradients, self.log_prob = part, 0, None
        self._record = record
        with speaking_as(part.title):
            self._guided = part.term.start(replace(run, record=self._seen))

    def __call__(self, denoised, x, sigma):
        with speaking_as(self.part.title):
            return self._guided(denoised, x, sigma)

    def _seen(self, event: TermEvent) -> None:
        self.gradients, self.log_prob = self.gradients + 1, event.log_prob
        self._record(event)

    def report(self) -> list[str]:
        """What the term did, in a few lines for the node."""
        if self.log_prob is None:
            return ["Classifier not run: its strength was 0 at every step."]
        last = float(self.log_prob.mean())
        return [f"{self.gradients} gradients, log p(target) {last:.3g} at the last.", *filter(None, [self.part.note])]


@dataclass
class HostRun:
    """One sampling run of a plan under a guider."""

    plan: Plan
    pipeline: PipelineRun | None
    terms: list[TermRun]
    passes: int = 0  # that CFG asks for
    expected: int = 0  # that CFG would ask for without leaving any out
    forced: bool = False  # the sampler or another node asked for every pass
    roles: tuple[str, ...] = ()  # of the batch of passes under way


def _open(plan: Plan, guider, sigmas: torch.Tensor, seed: int | None) -> HostRun:
    model = guider.model_patcher
    run = Run(
        path_of(model) or VE,
        tuple(sigmas.tolist()),
        seed=seed or 0,
        percent=percent_of(model),
        output=ModelOutput(model.get_model_object("model_sampling")),
    )
    records = [run.record] * (len(plan.terms) - 1) + [plan.record]
    terms = [TermRun(part, run, record) for part, record in zip(plan.terms, records, strict=False)]
    pipeline = None
    if plan.cfg is not None:
        with speaking_as(plan.cfg.title):
            pipeline = plan.cfg.pipeline.start(run)
    return HostRun(plan, pipeline, terms)


def _outer_sample(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    guider = executor.class_obj
    plan = guider.model_options.get(KEY)
    if plan is None or len(sigmas) < 2:
        return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    seed = kwargs.get("seed", args[3] if len(args) > 3 else None)
    run = _open(plan, guider, sigmas, seed)
    guider.model_options[RUN] = run
    with _overridden(guider, {"cfg": _loading_scale(run.pipeline, sigmas)} if run.pipeline else {}):
        result = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
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
    denoised = _guided_by_cfg(run, executor, guider, x, timestep, model_options, seed)
    for term in run.terms:
        denoised = term(denoised, x, timestep)
    return denoised


def _guided_by_cfg(run: HostRun, executor, guider, x, timestep, model_options, seed):
    if run.pipeline is None:
        return executor(x, timestep, model_options, seed)
    sigma, kind = float(timestep[0]), kind_of(guider)
    active = {role: _active_parts(parts, timestep) for role, parts in guider.conds.items()}
    call: Call = kind.call(guider, run.pipeline, sigma, frozenset(role for role, parts in active.items() if parts))
    if model_options.get("disable_cfg1_optimization", False):
        run.forced, call = True, Call(call.attributes)
    elif any(model_options.get(hook) for hook in HOOKS):
        call = replace(call, without=call.without - {"positive"})  # other nodes' hooks read it
    left_out = call.skipped | call.without
    run.expected += sum(active.values())
    run.passes += sum(parts for role, parts in active.items() if role not in left_out)
    run.roles = kind.roles
    conds = {role: None if role in call.without else parts for role, parts in guider.conds.items()}
    with _overridden(guider, call.attributes | {"conds": conds}):
        if not run.pipeline.plain and _combines(call):
            model_options = _with_method(run.pipeline, kind, guider, model_options)
        denoised = executor(x, timestep, model_options, seed)
    run.plan.record(CfgEvent(sigma, call.attributes.get("cfg", call.attributes.get("cfg1", 1.0))))
    return denoised


def _combines(call: Call) -> bool:
    return any(name.startswith("cfg") and value != 1 for name, value in call.attributes.items())


def _with_method(pipeline: PipelineRun, kind, guider, model_options: dict) -> dict:
    """model_options in which the pipeline's result replaces the guider's own, before the hooks of other nodes."""

    def combine(args):
        cond, uncond = kind.predictions({**args, "guider": guider})
        return pipeline.combine(cond, uncond, args["input"], args["sigma"], args["cond_scale"])

    return {
        **model_options,
        "sampler_post_cfg_function": [combine, *model_options.get("sampler_post_cfg_function", [])],
    }


def _active_parts(parts: list[dict] | None, timestep: torch.Tensor) -> int:
    """How many parts of a condition act at this noise level (ConditioningSetTimestepRange and its kin)."""
    level = timestep[0]
    return sum(
        not ("timestep_start" in part and level > part["timestep_start"])
        and not ("timestep_end" in part and level < part["timestep_end"])
        for part in parts or ()
    )


def _calc_cond_batch(executor, model, conds, x_in, timestep, model_options):
    """Gives a condition that is left out or absent the positive's output, where ComfyUI leaves zeros.

    It has no weight in the guider's own result; samplers and hooks that read it see no guidance, not a black picture.
    """
    out = executor(model, conds, x_in, timestep, model_options)
    run: HostRun | None = model_options.get(RUN)
    if run is None or len(run.roles) != len(conds):
        return out
    present = [bool(_active_parts(parts, timestep)) for parts in conds]
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
    lines: dict[str | None, list[str]] = {}
    if run.plan.cfg is not None:
        lines.setdefault(run.plan.cfg.node_id, []).extend(_cfg_report(run, guider))
    for term in run.terms:
        lines.setdefault(term.part.node_id, []).extend(term.report())
    for node_id, said in lines.items():
        say(node_id, "\n".join(said))


def _cfg_report(run: HostRun, guider) -> list[str]:
    """What CFG did in a run, in a few lines for the node."""
    lines = [f"CFG: {run.passes} of {run.expected} passes run."]
    if note := kind_of(guider).note(guider, run.pipeline.plain):
        lines.append(note)
    if run.forced:
        lines.append("The sampler or another node needs both passes at every step, so none are skipped.")
    if not run.pipeline.plain and "sampler_cfg_function" in guider.model_options:
        lines.append("The CFG function of another node on this model is replaced by this method; remove one of them.")
    return lines


def check_classifier(model: ModelPatcher, classifier) -> None:
    """Raise GuidanceError unless the classifier was made for this model's latents."""
    if path_of(model) is None:
        kind = ", ".join(cls.__name__ for cls in type(model.get_model_object("model_sampling")).__mro__[1:3])
        raise GuidanceError(
            f"this model mixes data and noise in a way of its own ({kind}), which noisy classifiers do not know: "
            f"use models of the VE kind (SD 1.x, SDXL) or flow kind (SD3, Flux)."
        )
    latents = model.get_model_object("latent_format")
    name = type(latents).__name__
    if classifier.channels != latents.latent_channels:
        raise GuidanceError(
            f"the classifier was trained on {classifier.channels}-channel latents, this model has "
            f"{latents.latent_channels} ({name}): load a classifier made for {name} latents."
        )
    if classifier.latent_space and classifier.latent_space.lower() != name.lower():
        raise GuidanceError(
            f"the classifier was trained on {classifier.latent_space} latents, this model has {name} latents: "
            f"load a classifier made for {name}."
        )
