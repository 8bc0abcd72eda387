"""The sheet of a sweep: its cells with their labels, the lines over them, and what the node says of it."""

import numpy as np
import torch
from torch import Tensor

from ...guidance_core.drawing.contact_sheet import Cell, Sheet, contact_sheet, in_rows
from ..host.judgement import Judgement
from ..host.sampling import Sampling
from ..host.sweep_kept import Finished
from .sweep_axis import Axis, Guidance


def is_grid(across: Axis, down: Axis) -> bool:
    """Whether the sheet has rows and columns, not one row that is broken where it is long."""
    return len(across.values) > 1 and len(down.values) > 1


def drawn(above: list[str], finished: list[Finished], pictures: list[Tensor], verdicts: list[str]) -> list[Cell]:
    """The cells of a sheet: what stands above each picture, the pictures [B, H, W, 3], and the words below them."""
    return [
        Cell(_bytes(images), words, tuple(filter(None, [verdict, each.words])))
        for words, each, images, verdict in zip(above, finished, pictures, verdicts, strict=True)
    ]


def sweep_sheet(head: list[str], across: Axis, down: Axis, cells: list[Cell]) -> Sheet:
    """The cells, row by row, under the lines of the head."""
    if not is_grid(across, down):
        return contact_sheet(head, in_rows(cells))
    width = len(across.values)
    rows = [cells[i : i + width] for i in range(0, len(cells), width)]
    return contact_sheet(head, rows, [words for words, _ in down.values])


def _bytes(images: Tensor) -> np.ndarray:
    return (255 * images.clamp(0, 1)).round().to(torch.uint8).numpy()


def head_lines(
    across: Axis, down: Axis, how: Sampling, base: Guidance, judgement: Judgement | None, batch: int
) -> list[str]:
    """The lines over a sheet: what is swept, who judges, and what is the same everywhere."""
    swept = {across.name, down.name}
    lines = [f"Sweep: {across.name} across, {down.name} down" if down.name else f"Sweep: {across.name}"]
    if judgement is not None:
        lines.append(judgement.words + (f" Mean of {batch} pictures." if batch > 1 else ""))
    same = [f"{how.steps} steps", how.sampler_name, how.scheduler, f"seed {how.seed}"]
    if "cfg scale" not in swept:
        same.append(f"cfg scale {base.cfg.scale:g}")
    if base.term is not None and "classifier scale" not in swept:
        same.append(f"classifier scale {base.term.term.scale:g}")
    return [*lines, ", ".join(same)]


def summary_lines(finished: list[Finished], there: int, zoom: float) -> list[str]:
    """What a sweep did, for the node."""
    passes, expected = sum(each.passes for each in finished), sum(each.expected for each in finished)
    lines = [f"{len(finished)} pictures: {passes} of {expected} passes run."]
    if there:
        lines.append(f"{there} of {len(finished)} pictures were there from the run that was stopped.")
    if zoom < 1:
        lines.append(f"The sheet shows them at {100 * zoom:.0f} % of their size; the output images has them whole.")
    return lines
