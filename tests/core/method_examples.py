"""Values that switch every parameter of a CFG method on, and things to connect to its sockets."""

import torch

from guidance_core.params import params_of

CHOSEN = {  # where halfway between default and top does nothing, or does not go together
    "adaptive": {"gamma": 0.1},
    "autoguidance": {},
    "cfg_pp": {"full_scale": 20.0},
    "feedback": {"mixing": 0.6, "target": "dark"},
    "mambo_g": {"alpha": 2.0},
    "norm_cap": {"cap": 0.5},
    "perp_neg": {"neg_scale": 1.5},
    "regional": {"outside": 0.4, "channels": "1, 0.5, 2, 1"},
    "apg": {"norm_threshold": 5.0, "momentum": -0.4},
    "dynamic_threshold": {"percentile": 0.9, "mimic_scale": 2.0},
}


class Brightness:
    """A classifier with labels: the mean of x, noise level aside."""

    labels, head = ("bright", "dark"), "single"

    def __call__(self, x, sigma, path):
        mean = x.flatten(1).mean(1)
        return torch.stack([3 * mean, -3 * mean], 1)


def left_half(shape):
    """A mask [H, W], white on the left."""
    mask = torch.zeros(shape[-2:])
    mask[:, : shape[-1] // 2] = 1
    return mask


SOCKETS = {
    "model": lambda shape: lambda x, sigma: 0.3 * x + 0.2,
    "conditioning": lambda shape: lambda x, sigma: 0.1 * x.flip(-1) - 0.2,
    "mask": left_half,
    "classifier": lambda shape: Brightness(),
}


def switched_on(method, shape):
    """A value away from the neutral one for every parameter: as chosen, or between default and top."""
    chosen = dict(CHOSEN.get(method.name, {}))
    for name, param in params_of(method).items():
        if name in chosen:
            continue
        if param.kind is object:
            chosen[name] = SOCKETS[param.socket](shape)
        elif param.kind is bool:
            chosen[name] = not param.default
        elif param.kind is tuple:
            chosen[name] = param.options[-1]
        elif param.kind is str:
            chosen[name] = param.default
        else:
            chosen[name] = param.kind((param.default + param.high) / 2)
    return chosen
