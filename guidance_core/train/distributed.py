"""Where `Process` and `launched` were before they served more than training; see `guidance_core.distributed`."""

from ..distributed import Process, launched, this_process

__all__ = ["Process", "launched", "this_process"]
