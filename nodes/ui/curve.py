"""A schedule's strength over a run, as it is drawn: live on the node, and in the node's picture."""

import math

from ...guidance_core.drawing.plot import BLUE, Line, Panel, nice
from ...guidance_core.frozen import frozen
from ...guidance_core.run import Run, percent_of_training
from ...guidance_core.scale import ScaleSchedule
from ...guidance_core.schedules import betas, karras, sigmas_from_betas
from .trace_plot import ends

POINTS = 200  # of a drawn curve, at least: an edge of a window looks upright
STABLE_DIFFUSION = "on Stable Diffusion's noise levels"


@frozen
class Curve:
    """Strengths at places in [0, 1] from the first step of a run to its last, the range of the ordinate, and words."""

    title: str
    places: tuple[float, ...]
    strengths: tuple[float, ...]
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


def curve_of(schedule: ScaleSchedule, run: Run, name: str) -> Curve:
    """A schedule over a run from noisy to clean; steps are spaced evenly, between them sigma falls evenly."""
    strength, levels = schedule.over(run), run.levels
    pieces = math.ceil(POINTS / max(len(levels) - 1, 1))
    fine = [a + (b - a) * k / pieces for a, b in zip(levels, levels[1:], strict=False) for k in range(pieces)]
    strengths = tuple(map(strength, [*fine, levels[-1]] if len(levels) > 1 else levels * 2))
    words = ("0, the first step", "1, the last step")
    if schedule.axis != "step":
        words = [f"{schedule.axis} {nice(run.position(schedule.axis, level))}" for level in (levels[0], levels[-1])]
    return Curve(
        title=f"strength: {name}",
        places=tuple(i / (len(strengths) - 1) for i in range(len(strengths))),
        strengths=strengths,
        low=min(0.0, *strengths),
        high=max(1.0, *strengths),
        ticks=ends(*words),
    )


def example_run(schedule: ScaleSchedule) -> Run:
    """A run to draw over where none is known: 40 steps on Stable Diffusion's noise levels, or begun where start is."""
    top = max(schedule.start, 14.6) if schedule.axis == "sigma" else 14.6
    percent = percent_of_training(sigmas_from_betas(betas("scaled_linear")))
    return Run(sigmas=tuple(karras(0.03, top, 40).tolist()), percent=percent)


def curve_panel(schedule: ScaleSchedule, run: Run, name: str, note: str = "") -> Panel:
    """A schedule's curve over a run as a plot; the note stands beside its title."""
    curve = curve_of(schedule, run, name)
    line = Line(curve.strengths, BLUE, places=curve.places)
    title = f"{curve.title}, {note}" if note else curve.title
    return Panel(title, [line], curve.low, curve.high, curve.ticks)
