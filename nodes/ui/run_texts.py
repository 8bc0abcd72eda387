"""What the nodes of a plan say of a run: meanwhile, and when it is over."""

from collections.abc import Callable, Iterator

import torch

from ..host.hooks import HOOKS, hook_names
from ..host.host_run import HostRun, TermRun
from ..host.plan import CfgEvent, PartEvent
from ..host.running import running_node
from ..host.variety import VarietyRun
from .live import at_the_end, call_now, term_now
from .messages import folded, say


def speak(run: HostRun) -> None:
    """Show on each node of the plan what it did in a run."""
    of_cfg = _cfg_lines(run) if run.plan.cfg is not None else []
    news, beside = ([], of_cfg) if _off_beside_a_term(run) else (of_cfg, [])
    lines = _by_node(run, news, lambda term: _term_lines(run, term))
    details = _by_node(run, beside, lambda term: _term_details(run, term))
    for variety in run.varieties:
        lines.setdefault(variety.part.node_id, []).append(_variety_line(run, variety))
    for node_id, said in lines.items():
        more = details.get(node_id, [])
        run.report.lines.extend([*said, *more])
        say(node_id, folded([*filter(None, [run.odd]), *said], more))


def speak_meanwhile(run: HostRun) -> None:
    """Show on each node of the plan what its last call did, while the run goes on."""
    calls = [event for event in run.report.events if isinstance(event, CfgEvent)]
    last, places = calls[-1], [run.steps.step(call.sigma) for call in calls[run.followed :]]
    run.followed = len(calls)
    step = f"Step {int(places[-1]) + 1} of {len(run.about.levels)}"
    said = _by_node(run, [call_now(last, run.passes, run.expected)], lambda term: [term_now(term.part, term.now)])
    for node_id, lines in said.items():
        say(node_id, "\n".join([step, *lines]))


def _off_beside_a_term(run: HostRun) -> bool:
    """Whether CFG is a part of a node that guides by a term, and off there."""
    cfg = run.plan.cfg
    return cfg is not None and cfg.pipeline.scale == 1 and any(term.part.node_id == cfg.node_id for term in run.terms)


def _by_node(run: HostRun, of_cfg: list[str], of_term: Callable[[TermRun], list[str]]) -> dict[str | None, list[str]]:
    """What CFG and each term say, by the node that speaks for them: first the terms that acted, then CFG."""
    cfg = run.plan.cfg
    acted = [(term.part.node_id, of_term(term)) for term in run.terms if term.last is not None]
    idle = [(term.part.node_id, of_term(term)) for term in run.terms if term.last is None]
    lines: dict[str | None, list[str]] = {}
    if cfg is not None:
        lines[cfg.node_id] = []  # its node is told of first
        acted.append((cfg.node_id, of_cfg))
    for node_id, said in acted + idle:
        lines.setdefault(node_id, []).extend(said)
    return lines


def _term_lines(run: HostRun, term: TermRun) -> list[str]:
    """What a term did, in a few lines for the node."""
    if not term.part.judged:
        return _added_lines(run, term)
    if term.last is None:
        return ["Classifier not run: its strength was 0 at every step."]
    gradients = "1 gradient" if term.additions == 1 else f"{term.additions} gradients"
    lines = [f"{at_the_end(term.first, term.last, _throughout(run, term))} ({gradients})."]
    if term.part.clean:
        lines.extend(_clean_lines(run))
    if term.last.event.passes > 1:
        lines.append(f"Memory did not hold the whole batch: each gradient took {term.last.event.passes} passes.")
    return [*lines, *filter(None, [term.part.note])]


def _throughout(run: HostRun, term: TermRun) -> bool:
    """Whether a term acted at the first call of a run and at the last."""
    acted: list[bool] = []
    for event in run.report.events:
        if isinstance(event, CfgEvent):
            acted.append(False)
        elif event.part is term.part:
            acted[-1] = True
    return acted[0] and acted[-1]


def _term_details(run: HostRun, term: TermRun) -> list[str]:
    """What a judged term's guidance came to and cost, which is folded on the node."""
    if not term.part.judged or term.last is None:
        return []
    lines = [_pushed(run, term)]
    if count := len(term.shares):
        steps, median = "1 step" if count == 1 else f"{count} steps", float(f"{_median(term.shares):.2g}")
        lines.append(f"Judging took {median:g} of the time of the model's own passes (median of {steps}).")
    return lines


def _pushed(run: HostRun, term: TermRun) -> str:
    """How far a judged term moved the predictions, in a measure that is the same for every model."""
    events = (event for event in run.report.events if isinstance(event, PartEvent))
    pushes = torch.stack([each.event.push.mean() for each in events if each.part is term.part]).tolist()  # one wait
    most, median = f"{max(pushes):.2g}", f"{_median(pushes):.2g}"
    return f"Push: at most {most} times what was still undecided in the picture, {median} times at the median step."


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _added_lines(run: HostRun, term: TermRun) -> list[str]:
    """What a term without a classifier did."""
    calls = sum(isinstance(event, CfgEvent) for event in run.report.events)
    lines = [f"{term.part.name}: added at {term.additions} of {calls} calls."]
    if term.last is None:
        lines = [f"{term.part.name} was added at no step: its strength was 0 at each of them."]
    if term.part.term.own_passes and run.seen:
        lines[0] += f" Weakened passes run: {term.passes}."
    return [*lines, *filter(None, [term.part.note])]


def _variety_line(run: HostRun, variety: VarietyRun) -> str:
    """At how many calls a variety changed the condition, and what of it."""
    name, calls = variety.part.variety.title, sum(isinstance(event, CfgEvent) for event in run.report.events)
    if not variety.calls:
        return f"{name} changed nothing: its strength was 0 at every step."
    return f"{name}: varied the {' and the '.join(variety.varied)} at {variety.calls} of {calls} calls."


def _clean_lines(run: HostRun) -> Iterator[str]:
    """What a judge of clean data does not tell, and what would serve it better."""
    yield "That is no measure of success: look at the pictures."
    if run.noisy is False:
        yield "This sampler adds no noise at its steps: an ancestral or SDE one suits this classifier better."


def _cfg_lines(run: HostRun) -> list[str]:
    """What CFG did in a run, in a few lines for the node."""
    kind = run.kind
    lines = [_counted(run), *_by_others(run)]
    if note := kind.note(run.guider, run.plan.cfg.pipeline):
        lines.append(note)
    if run.nag:
        lines.append("Normalized Attention Guidance follows the schedule: where that is 0, its negative is not run.")
    elif kind.known and not run.acted and "negative" in run.guider.original_conds:
        lines.append(_why_off(run))
    if run.forced:
        lines.append("The sampler or another node needs both passes at every step, so none are skipped.")
    replaced = hook_names(run.guider.model_options, "sampler_cfg_function")
    if not run.pipeline.plain and replaced:
        lines.append(
            f"The CFG function of {' and '.join(replaced)} is replaced by the method here; remove one of them."
        )
    return [*lines, *_unread_hooks(run)]


def _counted(run: HostRun) -> str:
    """The passes of a run, as far as they are known."""
    if not run.kind.known:
        return f"CFG: {run.passes} passes run." if run.seen else "CFG: its passes cannot be seen."
    if not run.seen:
        return f"CFG: {run.asked} of {run.expected} passes asked for; what ran cannot be seen on this model."
    saved = f", {1 - run.passes / run.expected:.0%} saved".replace("%", " %") if run.passes < run.expected else ""
    return f"CFG: {_scale(run)}; {run.passes} of {run.expected} passes{saved}."


def _scale(run: HostRun) -> str:
    """The scale of CFG, and the sampler's own where another node takes its place."""
    scale, own = run.plan.cfg.pipeline.scale, getattr(run.guider, "cfg", None)
    if not isinstance(own, int | float) or own == scale or run.plan.cfg.node_id == running_node():
        return f"scale {scale:g}"
    return f"scale {scale:g} here, the sampler's cfg {own:g} is not used"


def _by_others(run: HostRun) -> list[str]:
    """What other nodes ran beside CFG's passes, or left out of them."""
    lines = []
    if run.counter.of_hooks:
        each = ", ".join(f"{node} {passes}" for node, passes in run.counter.of_hooks.items())
        lines.append(f"Hooks of other nodes ran {sum(run.counter.of_hooks.values())} more: {each}.")
    if run.idle and run.seen:
        calls = sum(isinstance(event, CfgEvent) for event in run.report.events)
        lines.append(f"At {run.idle} of {calls} calls a step cache of another node filled in, and no pass ran.")
    return lines


def _why_off(run: HostRun) -> str:
    """Why CFG combined nothing at any step."""
    pipeline = run.plan.cfg.pipeline
    sigmas = [event.sigma for event in run.report.events if isinstance(event, CfgEvent)]
    if not any(map(pipeline.schedule.over(run.about), sigmas)):
        return "CFG acted at no step: its schedule is 0 at each of them. Widen its window."
    if all(scale == 1 for scale in map(pipeline.scale_over(run.about), sigmas)):
        return "CFG acted at no step: at scale 1 it is off."
    return "CFG acted at no step: a condition to lead away from was missing."


def _unread_hooks(run: HostRun) -> list[str]:
    """A sentence for each hook on the guider's model that this guider does not run."""
    kind = type(run.guider).__name__
    return [
        f"The {words} of {' and '.join(names)} is not run by this guider ({kind}); ComfyUI's CFG Guider runs it."
        for hook, words in HOOKS.items()
        if hook not in run.kind.hooks and (names := hook_names(run.guider.model_options, hook))
    ]
