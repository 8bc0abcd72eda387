"""Prints the peak memory in MB of a process that steers one step by the base classifier.

`python -m benchmarks.gradient_peak BATCH SIDE TERMS ROOM`: so many terms, one after the other, at latents of SIDE x
SIDE. ROOM: the samples that memory holds at once, beyond which it runs out.
"""

import sys

import torch

import guidance_core as gc

from .base_classifier import base_classifier
from .peak import peak


def main(batch: int, side: int, terms: int, room: int) -> None:
    """Steer once and report."""
    classifier, labels = holding(room, base_classifier()), torch.zeros(batch).long()

    def denoiser(x, sigma):
        return 0.5 * x

    for _ in range(terms):
        denoiser = gc.classifier_guided(denoiser, classifier, labels)
    gc.sample(denoiser, torch.randn(batch, 4, side, side), torch.tensor([1.0, 0.0]))
    print(peak())


def holding(room: int, classifier):
    """A classifier whose memory runs out for more than `room` samples."""

    def judge(x, sigma, path):
        if len(x) > room:
            raise torch.cuda.OutOfMemoryError(f"{len(x)} samples do not fit")
        return classifier(x, sigma, path)

    return judge


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
