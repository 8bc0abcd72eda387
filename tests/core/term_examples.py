"""Every term with its parameters switched on, around judges that depend on nothing random where it has one."""

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


ON = {"higs": {"eta": 0.3, "memory": 0.4, "t_min": 0.2}, "mg": {"memory": 0.4}, "tag": {}}  # parameters by name


def term_of(name, scale=2.0, target="bright, -plain | (dark:1.5) | -bright", **options):
    """A term of that name; max_shift and entropy_aware act unless said otherwise."""
    if name not in JUDGES:
        return terms()[name](scale, **ON[name] | options)
    options = {"max_shift": 0.4, "entropy_aware": True} | options
    return terms()[name](JUDGES[name](), gc.parse_target(target, LABELS), scale, **options)


def uncapped(name, scale, **options):
    """The same without what bounds a change, so that it is proportional to the scale."""
    return term_of(name, scale, **({"max_shift": 0.0} if name in JUDGES else {}) | options)


def guided(term, denoised, x, sigma, run=None):
    """The second call of a run, after one at a higher level: what goes by the run's history acts there."""
    run = term.start(run or gc.Run())
    run(denoised.flip(-1), x.flip(-1), 1.25 * sigma)
    return run(denoised, x, sigma)
