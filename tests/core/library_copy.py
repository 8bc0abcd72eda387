"""Copies of the library in which a test can put a file of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import guidance_core as gc

ROOT = Path(gc.__file__).parent.parent


def copied(root, names):
    """A folder with these files and folders of the project, but for weights."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
        else:
            shutil.copy(ROOT / name, root / name)
    return root


def python(root, *arguments):
    """What a Python prints that sees the copy alone."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr
