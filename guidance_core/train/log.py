"""A table of a run's steps, a row each, that a run that goes on continues where it was."""

import csv
from dataclasses import dataclass
from pathlib import Path

from ..writing import write_whole
from .loop import TrainStep

COLUMNS = ("step", "loss", "accuracy", "validation_loss", "validation_accuracy")


@dataclass
class Log:
    """The CSV file of a run. Rows of steps that are made once more, after a break, are written over."""

    file: Path
    begun: bool = False

    def add(self, step: TrainStep) -> None:
        """Raises OSError or GuidanceError where it cannot be written."""
        if not self.begun:
            self._begin(step.step)
        held_out = (step.validation.loss, step.validation.accuracy) if step.validation else ("", "")
        with open(self.file, "a", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerow((step.step, step.loss, step.accuracy, *held_out))

    def _begin(self, step: int) -> None:
        """Keep the rows before a step, of a log that is there."""
        rows = [",".join(COLUMNS)]
        if self.file.is_file():
            old = self.file.read_text(encoding="utf-8").splitlines()[1:]
            rows += [row for row in old if row.count(",") == len(COLUMNS) - 1 and int(row.partition(",")[0]) < step]
        write_whole(self.file, "".join(f"{row}\n" for row in rows).encode())
        self.begun = True
