"""Prints the peak memory in MB of a process that samples one step: `python -m benchmarks.peak KIND WIDTH SIDE`.

KIND: alone (CFG), classifier (with Classifier Guidance), decoder (with the gradient through the VAE's decoder).
"""

import re
import subprocess
import sys
from pathlib import Path

import torch

from devtools.host import ROOT

from . import host

STATUS = Path("/proc/self/status")  # what `resource` says instead is at least what the starting process took
NOT_MEASURED = f"Peak memory is not measured here: it is read from {STATUS}, which this system has not."


def main(kind: str, width: str, side: str) -> None:
    """Sample once and report."""
    host.enter()
    from .base_classifier import base_classifier
    from .classifier_cost import decoder, through_decoder

    model, positive, negative = host.sd15(int(width))
    noise = torch.randn(1, 4, int(side), int(side))
    if kind == "classifier":
        ours = base_classifier()
        in_pack = host.pack("guidance_core").NoisyClassifier(ours.network, ours.labels, parameters=ours.parameters)
        model = host.node(
            "classifier_guidance.ClassifierGuidance",
            model=model,
            classifier=host.pack("nodes.host.classifier_files").host_classifier(in_pack),
            target="3",
            scale=1.0,
            entropy_aware=False,
            max_shift=0.0,
        )
    if kind == "decoder":
        network = decoder()
        model.set_model_sampler_post_cfg_function(
            lambda args: args["denoised"] + through_decoder(network, args["denoised"])()
        )
    host.sampled(model, positive, negative, noise, host.karras(model, 1))
    print(peak())


def peak() -> float:
    """Of this process so far, in MB."""
    return int(re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())[1]) / 1024


def peak_of(module: str, *arguments: object) -> float:
    """What a module that prints the peak of its process prints, in MB."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
