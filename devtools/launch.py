"""Runs a ComfyUI's `main.py` (first argument: its folder; the rest: its own options) for as long as its starter lives.

Beside a CPU build of torch, the package index offers only a CUDA build of torchvision, whose compiled part does not
load; torchvision still imports once the operators it describes are defined. Where the two match, nothing is done.
"""

import os
import runpy
import sys
import threading
from functools import cache
from importlib.metadata import version


def main() -> None:
    """Prepare torchvision where needed, then become ComfyUI."""
    threading.Thread(target=_leave_with_starter, daemon=True).start()
    prepare()
    folder, *options = sys.argv[1:]
    sys.path.insert(0, folder)
    sys.argv = [os.path.join(folder, "main.py"), *options]
    runpy.run_path(sys.argv[0], run_name="__main__")


@cache  # operators can be defined once a process
def prepare() -> None:
    """Make torchvision importable beside a CPU build of torch."""
    if version("torch").endswith("+cpu") and not version("torchvision").endswith("+cpu"):
        _define_torchvision_operators()


def _leave_with_starter() -> None:
    """Wait for the end of standard input, which comes when the starter closes it or dies, and leave at once."""
    os.read(0, 1)
    os._exit(0)


def _define_torchvision_operators() -> None:
    import torch

    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


if __name__ == "__main__":
    main()
