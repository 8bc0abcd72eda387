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
    device, line = printed(CODE.format(gpu=gpu))[-2:]
    assert device == "cpu" and words in line


def printed(code):
    """The lines that a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


READS = """
from benchmarks import host

host.enter()
from benchmarks.host_overhead import reads_by_plan

for name, reads, most in reads_by_plan():
    print(name, reads, most, sep="|")
"""


def test_guidance_waits_for_the_device_no_more_often_than_it_must():
    """A number read out of a tensor is a wait on a GPU: none where nothing depends on it."""
    rows = [line.split("|") for line in printed(READS)[-4:]]
    assert {name: float(reads) for name, reads, _ in rows} == {name: float(most) for name, _, most in rows}
