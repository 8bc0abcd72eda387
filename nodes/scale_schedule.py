"""Scale Schedule: how the strength of guidance changes over the run, with its curve drawn on the node."""

from comfy_api.input import CurveInput
from comfy_api.latest import io, ui

from ..guidance_core.drawing.plot import picture
from ..guidance_core.errors import GuidanceError
from ..guidance_core.params import Param, params_of
from ..guidance_core.scale import ScaleSchedule
from ..guidance_core.shapes import SHAPES, Flat, Keyframes, Points
from .host.types import SCALE_SCHEDULE
from .ui.curve import STABLE_DIFFUSION, curve_panel, example_run
from .ui.messages import say, speaking_as
from .ui.trace_plot import as_image, on_node
from .ui.widgets import chosen, widgets

TITLE = "Scale Schedule"

EVER = 30.0  # a log-SNR that stands for the beginning (-) or the end of any run

WINDOWS = {  # axis: (start, end, least, most, step, tooltip of start, tooltip of end)
    "step": (
        0.0,
        1.0,
        0.0,
        1.0,
        0.01,
        "First step, as a fraction of the steps of the sampler's run; for runs split over samplers use percent.",
        "Last step, as a fraction of the steps of the sampler's run.",
    ),
    "percent": (
        0.0,
        1.0,
        0.0,
        1.0,
        0.01,
        "Where it begins, in ComfyUI's timestep percent: 0 is pure noise, 1 the clean picture.",
        "Where it ends, in ComfyUI's timestep percent: 0 is pure noise, 1 the clean picture.",
    ),
    "sigma": (
        5.42,
        0.28,
        0.0,
        10000.0,
        0.01,
        "Noise level at which it begins (the higher one). SDXL: 5.42; flow models, whose sigma is 0 to 1: 0.84.",
        "Noise level at which it ends (the lower one). SDXL: 0.28; flow models: 0.22.",
    ),
    "log_snr": (
        -EVER,
        EVER,
        -EVER,
        EVER,
        0.1,
        "Log signal-to-noise ratio at which it begins; -30 is the beginning of the run.",
        "Log signal-to-noise ratio at which it ends; 30 is the end of the run.",
    ),
}


def _shape_option(name: str) -> io.DynamicCombo.Option:
    shape = SHAPES[name]
    levels = () if issubclass(shape, Points) else ("high",) if issubclass(shape, Flat) else ("low", "high")
    inputs = widgets(shape) + (widgets(ScaleSchedule, *levels) if levels else [])
    return io.DynamicCombo.Option(name, inputs)


def _axis_option(axis: str) -> io.DynamicCombo.Option:
    start, end, low, high, step, start_doc, end_doc = WINDOWS[axis]
    return io.DynamicCombo.Option(
        axis,
        [
            io.Float.Input("start", default=start, min=low, max=high, step=step, round=0.0001, tooltip=start_doc),
            io.Float.Input("end", default=end, min=low, max=high, step=step, round=0.0001, tooltip=end_doc),
        ],
    )


class ScaleScheduleNode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitScaleSchedule",
            display_name=TITLE,
            category="model/sampling/guidance",
            description=(
                "How the strength of guidance changes over the run: 1 is the full scale, 0 is off. "
                "Where it is 0, passes that would do nothing are not run."
            ),
            search_aliases=[
                "cfg schedule",
                "guidance schedule",
                "guidance interval",
                "limited interval",
                "cfg curve",
                "schedule curve",
                "dynamic cfg",
                "cfg",
                "curve",
                "keyframes",
                "classifier schedule",
            ],
            has_intermediate_output=True,
            inputs=[
                io.DynamicCombo.Input(
                    "shape",
                    options=[_shape_option(name) for name in SHAPES],
                    tooltip="\n".join(f"{name}: {shape.doc}" for name, shape in SHAPES.items()),
                ),
                io.DynamicCombo.Input(
                    "axis",
                    options=[_axis_option(axis) for axis in WINDOWS],
                    tooltip="What start and end are measured in: sampling steps, ComfyUI's timestep percent, the noise "
                    "level sigma, or the log signal-to-noise ratio.",
                ),
                *(_advanced(widgets(ScaleSchedule, "reverse", "preserve_mean"))),
                io.Custom("CURVE").Input(
                    "curve",
                    optional=True,
                    extra_dict={"forceInput": True},
                    tooltip="A curve drawn in the Curve Editor; it takes the place of the shape.",
                ),
            ],
            outputs=[
                SCALE_SCHEDULE.Output("schedule", tooltip="For any input named schedule."),
                io.Image.Output("picture", tooltip="The curve, as on the node."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, reverse: bool, preserve_mean: bool, shape: dict | None = None, axis: dict | None = None, curve=None
    ) -> io.NodeOutput:
        with speaking_as(TITLE):
            shape, axis = chosen("shape", shape), chosen("axis", axis)
            schedule = schedule_of(shape, axis, reverse, preserve_mean, curve)
            note = "" if schedule.axis == "step" else STABLE_DIFFUSION
            panel = curve_panel(schedule, example_run(schedule), shown_name(shape, curve), note)
        drawn = "" if curve is None else f"The drawn curve is used in place of '{shape['shape']}'."
        say(cls.hidden.unique_id, drawn)
        return io.NodeOutput(
            schedule, as_image(picture([panel], height=190)), ui=ui.PreviewImage(as_image(on_node([panel])), cls=cls)
        )


def _advanced(inputs: list[io.Input]) -> list[io.Input]:
    for each in inputs:
        each.advanced = True
    return inputs


def schedule_of(shape: dict, axis: dict, reverse: bool, preserve_mean: bool, curve: object = None) -> ScaleSchedule:
    """The schedule that the node's values describe. Raises GuidanceError for one that is missing or not allowed."""
    name, kind = _value(shape, "shape"), _value(axis, "axis")
    Param(tuple, None, "", options=tuple(SHAPES)).check("shape", name)
    Param(tuple, None, "", options=tuple(WINDOWS)).check("axis", kind)
    levels = {key: shape[key] for key in ("low", "high") if key in shape}
    if curve is not None:
        made = _drawn_shape(curve, **levels)
    else:
        made = SHAPES[name](**{key: _value(shape, key) for key in params_of(SHAPES[name])})
    start, end = _value(axis, "start"), _value(axis, "end")
    for key, value in (("start", start), ("end", end)):
        Param(float, None, "", *WINDOWS[kind][2:4]).check(key, value)
    if kind == "log_snr":
        start, end = start if start > -EVER else None, end if end < EVER else None
    return ScaleSchedule(made, start, end, axis=kind, reverse=reverse, preserve_mean=preserve_mean, **levels)


def shown_name(shape: dict, curve: object) -> str:
    """What the curve of the node's values is called."""
    return "drawn curve" if curve is not None else shape["shape"].replace("_", " ")


def _value(values: dict, name: str) -> object:
    if name not in values:
        raise GuidanceError(f"{name} is missing.")
    return values[name]


def _drawn_shape(curve: object, low: float = 0.0, high: float = 1.0) -> Keyframes:
    """A curve from the Curve Editor as keyframes between low and high."""
    try:
        curve = CurveInput.from_raw(curve)
        points = sorted({x: low + (high - low) * y for x, y in curve.points}.items())
    except (LookupError, TypeError, ValueError) as error:
        raise GuidanceError(f"the curve input is not a curve ({error}); connect a Curve Editor.") from error
    interpolation = "linear" if type(curve).__name__ == "LinearCurve" else "monotone_cubic"
    return Keyframes(", ".join(f"{x:.6g}: {y:.6g}" for x, y in points), interpolation)
