"""Every term with its parameters switched on, around what depends on nothing random."""

import torch
from torch import nn

import guidance_core as gc
from guidance_core.params import params_of
from guidance_core.terms import terms
from guidance_core.terms.judged import JudgedTerm

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


def noised(x, sigma):
    """A prediction that depends on the noise level, as what is connected and as the model's own under its condition."""
    return torch.tanh(x) / (1 + sigma).reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)


def weaker(x, sigma):
    return 0.5 * noised(x, sigma)


SOCKETS = {"model": weaker}  # what is connected, by the kind of socket
SWITCHED_ON = {"max_shift": 0.4, "entropy_aware": True}  # where a term has them
ON = {"higs": {"eta": 0.3, "memory": 0.4, "t_min": 0.2}, "mg": {"memory": 0.4}, "tag": {}}  # parameters by name
TARGET = "bright, -plain | (dark:1.5) | -bright"


def term_of(name, scale=2.0, target=TARGET, **options):
    """A term of that name with what it needs; SWITCHED_ON acts unless said otherwise, as far as the term has it."""
    cls = terms()[name]
    options = SWITCHED_ON | ON.get(name, {}) | options
    options = {key: value for key, value in options.items() if key in cls.__dataclass_fields__}
    if issubclass(cls, JudgedTerm):
        return cls(JUDGES[name](), gc.parse_target(target, LABELS), scale, **options)
    needed = {key: SOCKETS[param.socket] for key, param in params_of(cls).items() if param.kind is object}
    return cls(scale=scale, **needed, **options)


def uncapped(name, scale, **options):
    """The same without what bounds a change, so that it is proportional to the scale."""
    return term_of(name, scale, **{"max_shift": 0.0} | options)
