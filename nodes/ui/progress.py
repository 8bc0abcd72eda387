"""Work under ComfyUI's progress bar and its Cancel."""

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils

from ...guidance_core.progress import Progress, Result, Work, run_to_end


def with_bar(work: Work[Result], seen: Callable[[Any], None] = lambda progress: None) -> Result:
    """The result of work; `seen` gets the progress of each part. Raises ComfyUI's interrupt where the user cancels."""
    bar = None

    def show(progress: Progress) -> None:
        nonlocal bar
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar = bar or comfy.utils.ProgressBar(progress.count)
        bar.update_absolute(progress.done, progress.count)
        seen(progress)

    return run_to_end(work, show)
