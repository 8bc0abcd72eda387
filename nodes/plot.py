"""Pictures on nodes: a schedule's curve, and the trace of a guided run."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..guidance_core.classifier.term import TermEvent
from ..guidance_core.plot import AMBER, BLUE, GREEN, Line, Panel, nice, picture
from ..guidance_core.run import Run
from ..guidance_core.scale import ScaleSchedule
from .plan import CfgEvent


def as_image(pixels: np.ndarray) -> Tensor:
    """A picture uint8 [H, W, 3] as IMAGE [1, H, W, 3] in [0, 1]."""
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None]


def along(sigmas: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """The ticks of a panel that runs over noise levels: its ends."""
    return ends(f"sigma {nice(sigmas[0])}", f"sigma {nice(sigmas[-1])}") if sigmas else ()


def ends(first: str, last: str) -> tuple[tuple[float, str], ...]:
    """The ticks of a panel with a word at each end."""
    return (0.0, first), (1.0, last)


def curve_picture(schedule: ScaleSchedule, run: Run) -> Tensor:
    """A schedule's strength over a run from noisy to clean."""
    strength = schedule.over(run)
    levels = run.levels
    fine = [a + (b - a) * k / 8 for a, b in zip(levels, levels[1:], strict=False) for k in range(8)] + [levels[-1]]
    values = [strength(level) for level in fine]
    words = (f"{schedule.axis} {nice(run.position(schedule.axis, level))}" for level in (levels[0], levels[-1]))
    title = f"strength: {schedule.shape.name.replace('_', ' ')}"
    panel = Panel(title, [Line(values, BLUE)], min(0.0, *values), max(1.0, *values), ends(*words))
    return as_image(picture([panel], height=190))


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
    ticks = along([call.sigma for call in calls])
    cfg = Line([call.scale for call in calls], BLUE, "CFG")
    classifier = Line([term.scale if term else 0.0 for term in terms], AMBER, "classifier")
    low = min([0.0, *cfg.values, *classifier.values])
    panels = [
        Panel("scale", [cfg, classifier], low, ticks=ticks),
        Panel("log p(target)", _samples(terms, "log_prob", AMBER), high=0.0, ticks=ticks),
        Panel("gradient norm", _samples(terms, "grad_norm", GREEN), low=0.0, ticks=ticks),
    ]
    return as_image(picture(panels))


def _samples(terms: Sequence[TermEvent | None], name: str, colour: tuple[int, int, int], most: int = 16) -> list[Line]:
    """A faint line a sample, and their mean."""
    rows = [getattr(term, name).float().cpu() if term else None for term in terms]
    batch = max((len(row) for row in rows if row is not None), default=0)
    faint = [
        Line([float(r[i]) if r is not None else None for r in rows], colour, faint=True)
        for i in range(min(batch, most))
    ]
    return [*faint, Line([float(r.mean()) if r is not None else None for r in rows], colour, "mean")]
