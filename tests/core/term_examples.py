"""Every term with its parameters switched on, around judges that depend on nothing random."""

import torch
from torch import nn

import guidance_core as gc
from guidance_core.terms import terms

LABELS = ("bright", "dark", "plain")


class Brightness(nn.Module):
    """Logits of clean data by its mean and its first channel."""

    def forward(self, x0):
        mean, first = x0.flatten(1).mean(1), x0[:, 0].flatten(1).mean(1)
        return torch.stack([3 * mean + first, -3 * mean, first * mean], 1)


def brightness(x, sigma, path):
    """The same of a noisy sample, less sure the more noise there is."""
    return Brightness()(path.unit(x, sigma)) / (1 + sigma)[:, None]


JUDGES = {"classifier": lambda: brightness, "clean_classifier": lambda: gc.clean_classifier(Brightness(), LABELS)}


def term_of(name, scale=2.0, target="bright, -plain | (dark:1.5) | -bright", **options):
    """A term of that name; max_shift and entropy_aware act unless said otherwise."""
    options = {"max_shift": 0.4, "entropy_aware": True} | options
    return terms()[name](JUDGES[name](), gc.parse_target(target, LABELS), scale, **options)
