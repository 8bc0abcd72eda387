"""Pictures on nodes: the trace of a guided run."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...guidance_core.drawing.plot import AMBER, BLUE, CLEAR, GREEN, Line, Panel, nice, picture
from ...guidance_core.terms.judged import JudgedEvent
from ..host.plan import CfgEvent, PartEvent, TermPart
from .live import shown

OWN_VIEW = "target in the guide's own eyes (no measure)"


def as_image(pixels: np.ndarray) -> Tensor:
    """A picture uint8 [H, W, C] as IMAGE [1, H, W, C] in [0, 1]."""
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None]


def on_node(panels: Sequence[Panel]) -> np.ndarray:
    """Panels as they are read on a node, uint8 [H, W, 4]: large letters, and the node's own colour below them."""
    return picture(panels, width=360, height=132, size=13, ink=CLEAR)


def along(sigmas: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """The ticks of a panel that runs over noise levels: its ends."""
    return ends(f"sigma {nice(sigmas[0])}", f"sigma {nice(sigmas[-1])}") if sigmas else ()


def ends(first: str, last: str) -> tuple[tuple[float, str], ...]:
    """The ticks of a panel with a word at each end."""
    return (0.0, first), (1.0, last)


def trace_panels(events: Sequence[CfgEvent | PartEvent], part: TermPart) -> list[Panel]:
    """What guidance did over a run: how sure the classifier was of its target, the scales, the gradient's size.

    part: the classifier term to show, where the MODEL has several.
    """
    calls: list[CfgEvent] = []
    terms: list[JudgedEvent | None] = []
    for event in events:
        if isinstance(event, CfgEvent):
            calls.append(event)
            terms.append(None)
        elif event.part is part:
            terms[-1] = event.event
    ticks = along([call.sigma for call in calls])
    head = part.term.classifier.head
    seen = [shown(term.log_prob, head) if term else None for term in terms]
    sizes = [term.grad_norm.float().cpu() if term else None for term in terms]
    cfg = Line([call.scale for call in calls], BLUE, "CFG")
    classifier = Line([term.scale if term else 0.0 for term in terms], AMBER, "classifier")
    low = min([0.0, *cfg.values, *classifier.values])
    return [
        Panel(OWN_VIEW if part.clean else head.shown_title, _samples(seen, GREEN), *head.shown_range, ticks=ticks),
        Panel("guidance scale", [cfg, classifier], low, ticks=ticks),
        Panel("size of the classifier's gradient", _samples(sizes, AMBER), low=0.0, ticks=ticks),
    ]


def _samples(rows: Sequence[Tensor | None], colour: tuple[int, int, int], most: int = 16) -> list[Line]:
    """A faint line a sample, and their mean; rows: [B] at each call, None where there is none."""
    batch = max((len(row) for row in rows if row is not None), default=0)
    mean = Line([float(row.mean()) if row is not None else None for row in rows], colour, "mean" if batch > 1 else "")
    if batch == 1:
        return [mean]
    shown = min(batch, most)
    name = "each sample" if shown == batch else f"the first {shown} samples"
    faint = [
        Line([float(row[i]) if row is not None else None for row in rows], colour, name if i == 0 else "", faint=True)
        for i in range(shown)
    ]
    return [*faint, mean]
