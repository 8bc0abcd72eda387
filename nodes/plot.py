"""Pictures on nodes: a schedule's curve, and the trace of a guided run. Drawn with Pillow, which every ComfyUI has."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..guidance_core.classifier.term import TermEvent
from ..guidance_core.run import Run
from ..guidance_core.scale import ScaleSchedule
from .plan import CfgEvent

BACKGROUND = (24, 26, 33)
GRID = (52, 56, 68)
TEXT = (176, 182, 196)
BLUE = (110, 168, 254)
AMBER = (246, 190, 92)
GREEN = (124, 208, 148)
SMOOTHING = 2  # drawn this much larger, then reduced


@dataclass(frozen=True)
class Line:
    """One curve of a panel. values: one a point, in order; None leaves a gap."""

    values: Sequence[float | None]
    colour: tuple[int, int, int]
    name: str = ""
    faint: bool = False


@dataclass(frozen=True)
class Panel:
    """One plot: a title, its lines, and its ordinate's range where it is not that of the data."""

    title: str
    lines: Sequence[Line]
    low: float | None = None
    high: float | None = None
    x_labels: tuple[str, str] = ("", "")


def _nice(value: float) -> str:
    return "0" if value == 0 else f"{value:.3g}"


def _range(panel: Panel) -> tuple[float, float]:
    values = [v for line in panel.lines for v in line.values if v is not None and math.isfinite(v)]
    low = panel.low if panel.low is not None else min(values, default=0.0)
    high = panel.high if panel.high is not None else max(values, default=1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    return low, high


def _draw(draw: ImageDraw.ImageDraw, panel: Panel, left: int, top: int, width: int, height: int, unit: int) -> None:
    font = ImageFont.load_default(size=11 * unit)
    low, high = _range(panel)
    x0, y0 = left + 46 * unit, top + 24 * unit
    x1, y1 = left + width - 12 * unit, top + height - 20 * unit
    draw.text((x0, top + 5 * unit), panel.title, fill=TEXT, font=font)
    x_name = x1
    for line in reversed([line for line in panel.lines if line.name]):
        x_name -= draw.textlength(line.name, font=font)
        draw.text((x_name, top + 5 * unit), line.name, fill=line.colour, font=font)
        x_name -= 12 * unit
    if not any(value is not None for line in panel.lines for value in line.values):
        draw.text(((x0 + x1) / 2, (y0 + y1) / 2), "not run", fill=TEXT, font=font, anchor="mm")
        return
    for share in (0.0, 0.5, 1.0):
        y = y1 + (y0 - y1) * share
        draw.line([(x0, y), (x1, y)], fill=GRID, width=unit)
        label = _nice(low + (high - low) * share)
        draw.text((x0 - 6 * unit - draw.textlength(label, font=font), y - 7 * unit), label, fill=TEXT, font=font)
    first, last = panel.x_labels
    draw.text((x0, y1 + 4 * unit), first, fill=TEXT, font=font)
    draw.text((x1 - draw.textlength(last, font=font), y1 + 4 * unit), last, fill=TEXT, font=font)

    def place(i: int, value: float, count: int) -> tuple[float, float]:
        value = min(max(value, low), high)
        return x0 + (x1 - x0) * (i / max(count - 1, 1)), y1 + (y0 - y1) * (value - low) / (high - low)

    for line in panel.lines:
        colour = (
            tuple((c + 2 * b) // 3 for c, b in zip(line.colour, BACKGROUND, strict=True)) if line.faint else line.colour
        )
        points: list[tuple[float, float]] = []
        for i, value in enumerate([*line.values, None]):
            if value is not None and math.isfinite(value):
                points.append(place(i, value, len(line.values)))
                continue
            if len(points) == 1:
                x, y = points[0]
                draw.ellipse([(x - 2 * unit, y - 2 * unit), (x + 2 * unit, y + 2 * unit)], fill=colour)
            elif points:
                draw.line(points, fill=colour, width=unit if line.faint else 2 * unit, joint="curve")
            points = []


def picture(panels: Sequence[Panel], width: int = 480, height: int = 150) -> Tensor:
    """Panels one below the other, as IMAGE [1, H, W, 3] in [0, 1]."""
    return as_image(drawn(panels, width, height))


def as_image(picture: Image.Image) -> Tensor:
    """A picture as IMAGE [1, H, W, 3] in [0, 1]."""
    return torch.from_numpy(np.asarray(picture.convert("RGB")).astype(np.float32) / 255)[None]


def drawn(panels: Sequence[Panel], width: int = 480, height: int = 150) -> Image.Image:
    """Panels one below the other."""
    unit = SMOOTHING
    image = Image.new("RGB", (width * unit, height * len(panels) * unit), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for i, panel in enumerate(panels):
        _draw(draw, panel, 0, i * height * unit, width * unit, height * unit, unit)
    return image.resize((width, height * len(panels)), Image.Resampling.LANCZOS)


def curve_picture(schedule: ScaleSchedule, run: Run) -> Tensor:
    """A schedule's strength over a run from noisy to clean."""
    strength = schedule.over(run)
    levels = run.levels
    fine = [a + (b - a) * k / 8 for a, b in zip(levels, levels[1:], strict=False) for k in range(8)] + [levels[-1]]
    values = [strength(level) for level in fine]
    ends = tuple(f"{schedule.axis} {_nice(run.position(schedule.axis, level))}" for level in (levels[0], levels[-1]))
    line = Line(values, BLUE)
    title = f"strength: {schedule.shape.name.replace('_', ' ')}"
    return picture([Panel(title, [line], min(0.0, *values), max(1.0, *values), ends)], height=190)


def ends_of(sigmas: Sequence[float]) -> tuple[str, str]:
    """The labels of an abscissa that runs over noise levels."""
    return (f"sigma {_nice(sigmas[0])}", f"sigma {_nice(sigmas[-1])}") if sigmas else ("", "")


def trace_picture(events: Sequence[CfgEvent | TermEvent]) -> Tensor:
    """What guidance did over a run: its scales, the log-probability of the target, the size of the gradient."""
    calls = [event for event in events if isinstance(event, CfgEvent)]
    terms: list[TermEvent | None] = [None] * len(calls)
    place = -1
    for event in events:
        if isinstance(event, CfgEvent):
            place += 1
        elif place >= 0:
            terms[place] = event
    ends = ends_of([call.sigma for call in calls])
    cfg = Line([call.scale for call in calls], BLUE, "CFG")
    classifier = Line([term.scale if term else 0.0 for term in terms], AMBER, "classifier")
    scales = Panel("scale", [cfg, classifier], low=min([0.0, *cfg.values, *classifier.values]), x_labels=ends)
    return picture(
        [
            scales,
            Panel("log p(target)", _samples(terms, "log_prob", AMBER), high=0.0, x_labels=ends),
            Panel("gradient norm", _samples(terms, "grad_norm", GREEN), low=0.0, x_labels=ends),
        ]
    )


def _samples(terms: Sequence[TermEvent | None], name: str, colour: tuple[int, int, int], most: int = 16) -> list[Line]:
    """A faint line a sample, and their mean."""
    rows = [getattr(term, name).float().cpu() if term else None for term in terms]
    batch = max((len(row) for row in rows if row is not None), default=0)
    faint = [
        Line([float(r[i]) if r is not None else None for r in rows], colour, faint=True)
        for i in range(min(batch, most))
    ]
    return [*faint, Line([float(r.mean()) if r is not None else None for r in rows], colour, "mean")]
