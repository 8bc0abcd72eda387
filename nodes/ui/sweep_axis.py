"""What a sweep goes through: an axis is chosen on the node, and becomes changes to the guidance of a cell."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from comfy_api.latest import io

from ...guidance_core.cfg import Pipeline, cfg_method, cfg_methods
from ...guidance_core.errors import GuidanceError, shortened
from ...guidance_core.frozen import frozen
from ...guidance_core.params import make, params_of
from ...guidance_core.scale import ScaleSchedule
from ...guidance_core.sweep import sweep_names, sweep_numbers
from ..host.plan import TermPart
from ..host.types import SCALE_SCHEDULE
from .messages import speaking_as
from .report import described

NOTHING = "nothing"
MOST_SCHEDULES = 8
LETTERS = 60  # of a schedule's words


@frozen
class Guidance:
    """The guidance of one cell."""

    cfg: Pipeline
    term: TermPart | None


Change = Callable[[Guidance], Guidance]


@frozen
class Axis:
    """One direction of a sheet: what is swept, and its values as (words, change to the guidance)."""

    name: str
    values: tuple[tuple[str, Change], ...]

    def changed(self, guidance: Guidance, index: int) -> Guidance:
        """The guidance under one value. Raises GuidanceError where it is out of range."""
        with speaking_as(self.name):
            return self.values[index][1](guidance)


@frozen
class Kind:
    """A kind of axis: what it is in words, its widgets, and its values as they are given on the node."""

    doc: str
    inputs: Callable[[], list[io.Input]]
    values: Callable[[dict], Iterator[tuple[str, Change]]]


def _numbers(example: str) -> Callable[[], list[io.Input]]:
    tooltip = "Values by comma, or from:to:count for evenly spaced ones, such as 1:8:5."
    return lambda: [io.String.Input("values", default=example, tooltip=tooltip)]


def _methods() -> list[io.Input]:
    known = ", ".join(cfg_methods())
    return [
        io.String.Input("methods", default="standard, apg, cfg_zero_star", tooltip=f"Names by comma, out of: {known}.")
    ]


def _schedules() -> list[io.Input]:
    each = SCALE_SCHEDULE.Input("schedule", tooltip="A Scale Schedule to try.")
    template = io.Autogrow.TemplatePrefix(each, prefix="schedule", min=1, max=MOST_SCHEDULES)
    return [io.Autogrow.Input("schedules", template=template)]


def _with_cfg(**changes) -> Change:
    return lambda guidance: replace(guidance, cfg=replace(guidance.cfg, **changes))


def _with_term(**changes) -> Change:
    def change(guidance: Guidance) -> Guidance:
        if guidance.term is None:
            raise GuidanceError("connect a classifier and write a target to sweep its guidance.")
        return replace(guidance, term=replace(guidance.term, term=replace(guidance.term.term, **changes)))

    return change


def _with_method(name: str) -> Change:
    kind = cfg_method(name)

    def change(guidance: Guidance) -> Guidance:
        for socket, param in params_of(kind).items():
            if param.needed:
                raise GuidanceError(
                    f"'{name}' needs a {param.socket} at {socket}, which a sweep cannot connect: put a CFG Combine "
                    f"with this method on the model and sweep something else."
                )
        method = make(kind, name, {})
        return replace(guidance, cfg=guidance.cfg.extended(guidance.cfg.scale, guidance.cfg.schedule, method))

    return change


def _each_number(name: str, change: Callable[..., Change]) -> Callable[[dict], Iterator[tuple[str, Change]]]:
    def values(chosen: dict) -> Iterator[tuple[str, Change]]:
        for number in sweep_numbers(chosen["values"]):
            yield f"{name} {number:g}", change(scale=number)

    return values


def _each_method(chosen: dict) -> Iterator[tuple[str, Change]]:
    for name in sweep_names(chosen["methods"], tuple(cfg_methods())):
        yield name, _with_method(name)


def _each_schedule(change: Callable[..., Change]) -> Callable[[dict], Iterator[tuple[str, Change]]]:
    def values(chosen: dict) -> Iterator[tuple[str, Change]]:
        schedules: list[ScaleSchedule] = list((chosen.get("schedules") or {}).values())
        if not schedules:
            raise GuidanceError("connect at least one Scale Schedule.")
        for i, schedule in enumerate(schedules):
            yield f"{i + 1}: {shortened(described(schedule), LETTERS)}", change(schedule=schedule)

    return values


KINDS = {
    "cfg scale": Kind("scales of CFG.", _numbers("1, 2, 4, 7.5"), _each_number("cfg scale", _with_cfg)),
    "classifier scale": Kind(
        "scales of the classifier's guidance.",
        _numbers("0, 1, 2, 4"),
        _each_number("classifier scale", _with_term),
    ),
    "cfg schedule": Kind("schedules of CFG.", _schedules, _each_schedule(_with_cfg)),
    "classifier schedule": Kind("schedules of the classifier's guidance.", _schedules, _each_schedule(_with_term)),
    "cfg method": Kind("methods of CFG Combine, with their default parameters.", _methods, _each_method),
}


def axis_input(name: str, doc: str, optional: bool = False) -> io.Input:
    """The choice of an axis on the node; an optional one begins with nothing."""
    options = [io.DynamicCombo.Option(key, kind.inputs()) for key, kind in KINDS.items()]
    if optional:
        options.insert(0, io.DynamicCombo.Option(NOTHING, []))
    tooltip = "\n".join([doc, *(f"{key}: {kind.doc}" for key, kind in KINDS.items())])
    return io.DynamicCombo.Input(name, options=options, tooltip=tooltip)


def axis_of(chosen: dict, name: str) -> Axis:
    """The axis chosen in axis_input; nothing is one value that changes nothing."""
    key = chosen[name]
    if key == NOTHING:
        return Axis("", (("", lambda guidance: guidance),))
    with speaking_as(key):
        return Axis(key, tuple(KINDS[key].values(chosen)))
