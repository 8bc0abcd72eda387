"""Work under ComfyUI's progress bar and its Cancel."""

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils

from ...guidance_core.progress import Progress, Result, Work, run_to_end


class Bar:
    """ComfyUI's progress bar of the node that runs; each look at it raises ComfyUI's interrupt where the user cancels.

    picture: (format, PIL image, longest side or None), shown on the node while it runs.
    """

    def __init__(self):
        self.bar = None  # it is seen from the first part on

    def show(self, done: int, count: int, picture: tuple | None = None) -> None:
        self.bar = self.bar or comfy.utils.ProgressBar(count)
        self.bar.update_absolute(done, count, picture)
        comfy.model_management.throw_exception_if_processing_interrupted()


def with_bar(work: Work[Result], seen: Callable[[Any], None] = lambda progress: None) -> Result:
    """The result of work; `seen` gets the progress of each part. Raises ComfyUI's interrupt where the user cancels."""
    bar = Bar()

    def show(progress: Progress) -> None:
        bar.show(progress.done, progress.count)
        seen(progress)

    return run_to_end(work, show)
