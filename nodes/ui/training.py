"""A training as it goes: ComfyUI's progress bar with a picture of the losses, and what has to be said of it."""

from PIL import Image

from ...guidance_core import train
from ...guidance_core.drawing.plot import AMBER, BLUE, Line, Panel
from .messages import say
from .progress import Bar
from .trace_plot import ends, on_node

PICTURES = 50  # over a run


class TrainingProgress:
    """The losses and validations of a run so far, and the notes of its steps."""

    def __init__(self, node_id: str | None):
        self.node_id = node_id
        self.losses: list[float] = []
        self.validations: list[tuple[int, float, float]] = []  # step, loss, accuracy
        self.notes: list[str] = []
        self.last: train.loop.TrainStep | None = None

    def run(self, steps: "train.loop.Training") -> "train.loop.TrainStep":
        """The last step of a run. Raises ComfyUI's interrupt when the user cancels."""
        bar = Bar()
        for step in steps:
            self._take(step)
            due = step.step % max(1, step.steps // PICTURES) == 0
            picture = ("PNG", Image.fromarray(on_node(self.panels())), None) if due else None
            bar.show(step.step, step.steps, picture)
        return self.last

    def _take(self, step: "train.loop.TrainStep") -> None:
        self.last = step
        self.losses.append(step.loss)
        if step.validation is not None:
            self.validations.append((step.step, step.validation.loss, step.validation.accuracy))
        if step.notes:
            self.notes += step.notes
            say(self.node_id, "\n".join(self.notes))

    def panels(self) -> list[Panel]:
        """Losses and accuracy so far."""
        count = len(self.losses)
        width = max(1, count // 100)
        smooth = [sum(part) / len(part) for part in (self.losses[i : i + width] for i in range(0, count, width))]
        steps = ends(f"step {self.last.step - count + 1}", f"step {self.last.step}")
        panels = [Panel("training loss", [Line(smooth, BLUE)], ticks=steps)]
        if self.validations:
            ticks = ends(*(f"step {self.validations[i][0]}" for i in (0, -1)))
            panels.append(Panel("validation loss", [Line([v[1] for v in self.validations], AMBER)], ticks=ticks))
            panels.append(Panel("validation accuracy", [Line([v[2] for v in self.validations], AMBER)], ticks=ticks))
        return panels
