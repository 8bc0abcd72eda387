"""Runs a guidance plan inside ComfyUI's sampling: the only reader of its hook dictionaries.

A plan travels on the MODEL and is opened anew by every run, so nothing survives in the execution cache. Three wrappers
carry it: OUTER_SAMPLE opens and closes the run, PREDICT_NOISE guides one call of any guider, CALC_COND_BATCH counts
passes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import comfy.model_sampling
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ..guidance_core.cfg import PipelineRun
from ..guidance_core.cfg.base import Pipeline
from ..guidance_core.classifier.term import ClassifierTerm, TermEvent
from ..guidance_core.errors import GuidanceError
from ..guidance_core.paths import FLOW, VE
from ..guidance_core.run import Run
from ..guidance_core.spaces import EPS, VELOCITY, X0, Edm, Space, V
from .guider_kinds import Call, kind_of
from .messages import say, speaking_as

KEY = "guidance_kit"
RUN = "guidance_kit_run"


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
    """One call under CFG: the noise level, the effective scale and how many passes it ran."""

    sigma: float
    scale: float
    passes: int


@dataclass(frozen=True)
class Plan:
    """All guidance on a MODEL. record is called with every CfgEvent, and with every TermEvent of the last term."""

    cfg: CfgPart | None = None
    terms: tuple[TermPart, ...] = ()
    record: Callable[[object], None] = lambda event: None


def plan_of(model: ModelPatcher) -> Plan:
    """The plan a MODEL carries; an empty one when it carries none."""
    return model.model_options.get(KEY, Plan())


def with_plan(model: ModelPatcher, plan: Plan) -> ModelPatcher:
    """A clone of MODEL that samples under the plan."""
    model = model.clone()
    model.model_options[KEY] = plan
    model.set_additional_models(KEY, [part.patcher for part in plan.terms])
    for kind, wrapper in (
        (WrappersMP.OUTER_SAMPLE, _outer_sample),
        (WrappersMP.PREDICT_NOISE, _predict_noise),
        (WrappersMP.CALC_COND_BATCH, _calc_cond_batch),
    ):
        model.remove_wrappers_with_key(kind, KEY)
        model.add_wrapper_with_key(kind, KEY, wrapper)
    return model


def path_of(model: ModelPatcher):
    """The noise path that ComfyUI samples this model on."""
    return FLOW if isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST) else VE


def output_space(model: ModelPatcher) -> Space:
    """The space of the model's own output."""
    sampling = model.get_model_object("model_sampling")
    spaces = (
        (comfy.model_sampling.EDM, lambda: Edm(float(sampling.sigma_data))),
        (comfy.model_sampling.V_PREDICTION, lambda: V),
        (comfy.model_sampling.X0, lambda: X0),
        (comfy.model_sampling.CONST, lambda: VELOCITY),
    )
    return next((space() for kind, space in spaces if isinstance(sampling, kind)), EPS)


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
            return ["classifier not run: its strength was 0 at every step"]
        last = float(self.log_prob.mean())
        return [f"{self.gradients} gradients, log p(target) {last:.3g} at the last", *filter(None, [self.part.note])]


@dataclass
class HostRun:
    """One sampling run of a plan under a guider."""

    plan: Plan
    pipeline: PipelineRun | None
    terms: list[TermRun]
    passes: int = 0
    expected: int = 0  # passes that plain CFG would have run
    forced: bool = False  # the sampler or another node asked for every pass


def _open(plan: Plan, guider, sigmas: torch.Tensor, seed: int | None) -> HostRun:
    model = guider.model_patcher
    run = Run(
        path_of(model),
        tuple(sigmas.tolist()),
        seed=seed or 0,
        percent=percent_of(model),
        output=output_space(model),
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
    with _overridden(guider, {"cfg": _loading_scale(run, guider, sigmas)} if run.pipeline else {}):
        result = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    _speak(run, guider)
    return result


def _loading_scale(run: HostRun, guider, sigmas: torch.Tensor) -> float:
    """A cfg that tells a guider before the run whether its unconditional model will be needed at all."""
    scales = [run.pipeline.scale_at(sigma) for sigma in sigmas.tolist()[:-1]]
    return next((scale for scale in scales if scale != 1), 1.0)


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
    before, sigma = run.passes, float(timestep[0])
    kind = kind_of(guider)
    present = frozenset(role for role, parts in guider.conds.items() if _active(parts, timestep))
    run.expected += len(present)
    call: Call = kind.call(guider, run.pipeline, sigma, present)
    if model_options.get("disable_cfg1_optimization", False):
        run.forced, call = True, Call(call.attributes)
    attributes = call.attributes
    if call.without:
        conds = {role: None if role in call.without else parts for role, parts in guider.conds.items()}
        attributes = attributes | {"conds": conds}
    with _overridden(guider, attributes):
        if not run.pipeline.plain and _combines(call):
            model_options = _with_method(run.pipeline, kind, guider, model_options)
        denoised = executor(x, timestep, model_options, seed)
    scale = call.attributes.get("cfg", call.attributes.get("cfg1", 1.0))
    run.plan.record(CfgEvent(sigma, scale, run.passes - before))
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


def _active(parts: list[dict] | None, timestep: torch.Tensor) -> bool:
    """Whether any part of a condition acts at this noise level (ConditioningSetTimestepRange and its kin)."""
    level = timestep[0]
    return any(
        not ("timestep_start" in part and level > part["timestep_start"])
        and not ("timestep_end" in part and level < part["timestep_end"])
        for part in parts or ()
    )


def _calc_cond_batch(executor, model, conds, x_in, timestep, model_options):
    run: HostRun | None = model_options.get(RUN)
    if run is not None:
        run.passes += sum(_active(parts, timestep) for parts in conds)
    return executor(model, conds, x_in, timestep, model_options)


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
    lines = [f"{run.passes} passes run, {run.expected} without skipping"]
    if note := kind_of(guider).note(guider, run.pipeline.plain):
        lines.append(note)
    if run.forced:
        lines.append("The sampler or another node needs both passes at every step, so none are skipped.")
    if not run.pipeline.plain and "sampler_cfg_function" in guider.model_options:
        lines.append("The CFG function of another node on this model is replaced by this method; remove one of them.")
    return lines


def check_classifier(model: ModelPatcher, classifier) -> None:
    """Raise GuidanceError unless the classifier was made for this model's latents."""
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
