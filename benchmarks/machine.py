"""What a benchmark ran on, in one line."""

import os
import platform
import re
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch


def machine(quick: bool) -> str:
    """Processor, threads, versions, commit and how busy the machine was."""
    cores, load = os.cpu_count(), os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    parts = [
        f"{_processor()}, {cores} cores, {torch.get_num_threads()} threads for torch",
        "everything on the CPU" + (", not the GPU" if torch.cuda.is_available() else ""),
        f"Python {sys.version.split()[0]}",
        f"torch {version('torch')}",
        f"diffusers {version('diffusers')}" if find_spec("diffusers") else "without diffusers, whose rows are left out",
        f"ComfyUI {sys.modules['comfyui_version'].__version__}",
        f"Guidance Kit {_commit()}",
        f"{date.today()}, load {load:.1f} at the start",
    ]
    return "*" + "; ".join(parts) + ("; `--quick`, which is too short to judge by" if quick else "") + ".*"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists() and (named := re.search(r"model name\s*:\s*(.+)", information.read_text())):
        return named[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """With "changed" where files differ from it that are not the results themselves."""
    here = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True)
    if commit.returncode:
        return "without a commit"
    others = [":!RESULTS.md", ":!*.png"]
    same = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", ":/", *others], cwd=here)
    return commit.stdout.strip() + (" changed" if same.returncode else "")
