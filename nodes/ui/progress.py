"""Work under ComfyUI's progress bar and its Cancel."""

import comfy.model_management
import comfy.utils

from ...guidance_core.progress import Progress, Result, Work, run_to_end


def with_bar(work: Work[Result]) -> Result:
    """The result of work. Raises ComfyUI's interrupt between two of its parts when the user cancels."""
    bar = None

    def show(progress: Progress) -> None:
        nonlocal bar
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar = bar or comfy.utils.ProgressBar(progress.count)
        bar.update_absolute(progress.done, progress.count)

    return run_to_end(work, show)
