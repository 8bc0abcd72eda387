"""Prints the peak memory in MB of a process that samples one step: `python -m benchmarks.peak KIND WIDTH SIDE`.

KIND: alone (CFG), classifier (with Classifier Guidance), decoder (with the gradient through the VAE's decoder).
"""

import resource
import sys

import torch

from . import host


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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak / (2**20 if sys.platform == "darwin" else 2**10))


if __name__ == "__main__":
    main(*sys.argv[1:])
