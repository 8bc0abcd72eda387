"""The classifier that costs are measured on: the base network, whose random weights cost what trained ones do."""

import torch

import guidance_core as gc
from guidance_core.classifier.latent_encoder import SIZES, LatentEncoder

from .host import randomised
from .measure import Side


def base_classifier(channels: int = 4) -> gc.NoisyClassifier:
    """An untrained classifier of the size for real pictures, whose gradient is not 0."""
    parameters = {"channels": channels, "classes": 10, **SIZES["base"]}
    network = randomised(LatentEncoder(**parameters)).eval().requires_grad_(False)
    return gc.NoisyClassifier(network, [str(i) for i in range(10)], parameters=parameters)


def gradient(classifier, shape: tuple[int, ...]) -> Side:
    """One gradient of a classifier at random latents."""
    x, labels = torch.randn(shape, generator=torch.Generator().manual_seed(0)), torch.zeros(shape[0]).long()
    return lambda: gc.log_prob_grad(classifier, x, 1.0, labels)
