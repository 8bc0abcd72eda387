"""The benchmarks measure on the CPU, on a machine with a GPU too."""

import subprocess
import sys

import pytest

from devtools.host import ROOT

# In a process of its own, since it becomes ComfyUI.
CODE = """
import torch

torch.cuda.is_available = lambda: {gpu}
from benchmarks import host, machine

host.prepare()
import comfy.model_management

print(comfy.model_management.get_torch_device(), machine.machine(quick=False), sep="\\n")
"""


@pytest.mark.parametrize(
    "gpu, words", [(True, "everything on the CPU, not the GPU;"), (False, "everything on the CPU;")]
)
def test_figures_are_of_the_cpu(gpu, words):
    command = [sys.executable, "-c", CODE.format(gpu=gpu)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    device, line = done.stdout.splitlines()[-2:]
    assert device == "cpu" and words in line
