"""What a MODEL's guidance will do over a run, and what it did, as text and as a picture."""

from collections.abc import Iterable

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...guidance_core.cfg import Pipeline
from ...guidance_core.drawing.plot import AMBER, BLUE, GREEN, Line, Panel
from ...guidance_core.frozen import frozen
from ...guidance_core.params import params_of
from ...guidance_core.scale import ScaleSchedule
from ...guidance_core.shapes import Constant
from ..host.guider_kinds import not_running
from ..host.hooks import HOOKS, hook_names
from ..host.model_facts import run_of
from ..host.plan import CfgEvent, PartEvent, Plan, RunReport
from .messages import speaking_as
from .trace_plot import along


@frozen
class Step:
    """One step as planned: the noise level, CFG's scale, its passes, and each term's scale."""

    sigma: float
    scale: float
    passes: int
    terms: tuple[float, ...]


def planned(model: ModelPatcher, plan: Plan, sigmas: Tensor) -> list[Step]:
    """Every step of a run over these noise levels, as far as it is known before the run."""
    run = run_of(model, sigmas)
    pipeline, own = None, 0
    if plan.cfg is not None:
        own = sum(method.own_passes for method in plan.cfg.pipeline.methods)
        with speaking_as(plan.cfg.title, plan.cfg.node_id):
            pipeline = plan.cfg.pipeline.start(run)
    strengths = [part.term.schedule.over(run) for part in plan.terms]
    steps = []
    for level in run.levels:
        scale = pipeline.scale_at(level) if pipeline else 1.0
        count = 0
        if pipeline is not None:
            passes = pipeline.passes(scale)
            count = passes.cond + passes.uncond + (own if scale != 1 else 0)
        terms = tuple(part.term.scale * s(level) for part, s in zip(plan.terms, strengths, strict=True))
        count += sum(part.term.own_passes for part, at in zip(plan.terms, terms, strict=True) if at != 0)
        steps.append(Step(level, scale, count, terms))
    return steps


def plan_lines(model: ModelPatcher, plan: Plan, steps: list[Step]) -> list[str]:
    """The plan in sentences."""
    if plan.cfg is None and not plan.terms and not plan.varieties:
        return [
            "There is no guidance of Guidance Kit on this MODEL: connect the one that goes into the sampler. "
            "Classifier Guidance Sampler brings its own, and shows it on itself."
        ]
    lines = []
    if plan.cfg is None:
        lines.append("CFG: the sampler's own.")
    else:
        lines += _pipeline_lines(plan.cfg.pipeline)
        guided = sum(step.scale != 1 for step in steps)
        run, all_of = sum(step.passes for step in steps), max(step.passes for step in steps) * len(steps)
        lines.append(
            f"{len(steps)} steps, {guided} of them guided: {run} of {all_of} passes (sampler with one call a step)."
        )
    for i, part in enumerate(plan.terms):
        active = sum(step.terms[i] != 0 for step in steps)
        lines.append(
            f"{part.name}: scale {part.term.scale:g}, {described(part.term.schedule)}; {active} of {len(steps)} steps."
        )
    for each in (part.variety for part in plan.varieties):
        lines.append(f"{each.title}: scale {each.scale:g}, {described(each.schedule)}.")
    return lines + _hook_lines(model)


def _pipeline_lines(pipeline: Pipeline) -> list[str]:
    lines = [f"CFG: scale {pipeline.scale:g}, {described(pipeline.schedule)}."]
    if pipeline.stages:
        lines.append(f"Methods, in the order they act: {', '.join(method.title for method in pipeline.stages)}.")
    return lines


def described(schedule: ScaleSchedule) -> str:
    """A schedule in a few words: its shape, and what of it is not as it comes."""
    details = [*_changed(schedule.shape), *_changed(schedule, "low", "high")]
    details += [word for word, on in (("reversed", schedule.reverse), ("mean kept", schedule.preserve_mean)) if on]
    ends = [("from", schedule.start, 0), ("to", schedule.end, 1)]
    whole = schedule.axis in ("step", "percent") and all(at in (None, edge) for _, at, edge in ends)
    window = "" if whole else " ".join(f"{side} {at:g}" for side, at, _ in ends if at is not None)
    if isinstance(schedule.shape, Constant) and not details and not window:
        return "constant"
    words = f"schedule {schedule.shape.name.replace('_', ' ')}" + (f" ({', '.join(details)})" if details else "")
    return f"{words} by {schedule.axis.replace('_', '-')} {window}".rstrip()


def _changed(declared: object, *only: str) -> list[str]:
    """The parameters that are not at their defaults, or the named ones among them."""
    words = []
    for name, param in params_of(type(declared)).items():
        value = getattr(declared, name)
        if value != param.default and (not only or name in only):
            words.append(f"{name} {value}" if isinstance(value, str) else f"{name} {value:g}")
    return words


def _hook_lines(model: ModelPatcher) -> list[str]:
    lines = []
    for hook, words in HOOKS.items():
        if names := hook_names(model.model_options, hook):
            deaf = not_running(hook)
            but = f"not run by {', '.join(deaf)}" if deaf else "run by every guider"
            lines.append(f"{words} of {' and '.join(names)}: {but}.")
    return lines


def run_lines(report: RunReport) -> list[str]:
    """What a run did, in sentences."""
    calls = [event for event in report.events if isinstance(event, CfgEvent)]
    end = "" if report.finished else ", stopped before its end"
    return [f"Ran under {report.guider}: {len(report.sigmas) - 1} steps, {len(calls)} calls{end}.", *report.lines]


def call_lines(report: RunReport) -> list[str]:
    """What a run did, call by call."""
    lines = []
    for i, (call, terms) in enumerate(by_call(report)):
        cells = [f"call {i + 1}", f"sigma {call.sigma:.4g}", f"cfg {call.scale:.4g}", f"passes {call.passes}"]
        if call.beside:
            cells[-1] += f" + {call.beside}"
        if call.by_methods not in (None, call.scale):
            cells.insert(3, f"by methods {call.by_methods:.4g}")
        cells += map(_term_cell, terms)
        lines.append(", ".join(cells))
    return lines


def _term_cell(term: PartEvent) -> str:
    if not term.part.judged:
        return f"{term.part.name} {term.event.scale:.4g}"
    whose = "its own " if term.part.clean else ""
    log_prob, push = float(term.event.log_prob.mean()), float(term.event.push.mean())
    return f"classifier {term.event.scale:.4g} {whose}log p {log_prob:.3g} push {push:.2g}"


def by_call(report: RunReport) -> list[tuple[CfgEvent, list[PartEvent]]]:
    """Each call of the model with the terms that were added to it."""
    calls = []
    for event in report.events:
        if isinstance(event, CfgEvent):
            calls.append((event, []))
        elif calls:
            calls[-1][1].append(event)
    return calls


def report_panels(steps: list[Step], report: RunReport | None, names: Iterable[str] = ()) -> list[Panel]:
    """Scales and passes over the run: as planned, or as they were. names: of the terms."""
    if report is None:
        sigmas = [step.sigma for step in steps]
        scales, passes = [step.scale for step in steps], [step.passes for step in steps]
        adjusted, terms = [None] * len(steps), [sum(step.terms) for step in steps]
    else:
        calls = by_call(report)
        sigmas = [call.sigma for call, _ in calls]
        scales, passes = [call.scale for call, _ in calls], [call.passes + call.beside for call, _ in calls]
        adjusted = [call.by_methods for call, _ in calls]
        terms = [sum(term.event.scale for term in added) for _, added in calls]
    named = names.pop() if len(names := {name.lower() for name in names}) == 1 else "terms"
    lines = [Line(scales, BLUE, "CFG")]
    if any(made not in (None, scale) for made, scale in zip(adjusted, scales, strict=True)):
        lines.append(Line(adjusted, GREEN, "by methods"))
    if any(terms):
        lines.append(Line(terms, AMBER, named))
    word, ticks = ("planned" if report is None else "as run"), along(sigmas)
    low = min([0.0, *scales, *terms])
    return [
        Panel(f"scale, {word}", lines, low, ticks=ticks),
        Panel(f"passes a call, {word}", [Line(passes, GREEN)], 0.0, max([2.0, *passes]), ticks),
    ]
