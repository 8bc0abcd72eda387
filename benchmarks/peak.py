"""Prints the peak memory in MB of a process that samples one step: `python -m benchmarks.peak KIND WIDTH SIDE`.

KIND: alone (CFG), classifier (with Classifier Guidance), decoder (with the gradient through the VAE's decoder).
"""

import re
import sys
from pathlib import Path

import torch

from . import host

STATUS = Path("/proc/self/status")  # what `resource` says instead is at least what the starting process took


def main(kind: str, width: str, side: str) -> None:
    """Sample once and report."""
    host.enter()
    from .classifier_cost import base_classifier, decoder, through_decoder

    model, positive, negative = host.sd15(int(width))
    noise = torch.randn(1, 4, int(side), int(side))
    if kind == "classifier":
        ours = base_classifier()
        in_pack = host.pack("guidance_core").NoisyClassifier(ours.network, ours.labels, parameters=ours.parameters)
        model = host.node(
            "classifier_guidance.ClassifierGuidance",
            model=model,
            classifier=host.pack("nodes.classifier_files").host_classifier(in_pack),
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
    print(int(re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())[1]) / 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
