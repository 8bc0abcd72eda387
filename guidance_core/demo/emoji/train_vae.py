"""How the VAE is trained: to give the picture and its edges back, from latents that are kept near a unit normal."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .augment import vary
from .data import HALF_A, HALF_B, Pictures
from .fit import Plan, half
from .vae import Vae

PLAN = Plan(steps=500, learning_rate=2e-3, seed=0, warm_up=60, cooling=0.5, ema=0.99)
BATCH = 16
KL = 1e-4
EDGES = 1.0


def loss_for(pictures: Pictures):
    """The loss of a VAE on random varied pictures of both halves."""
    pictures = pictures.of(HALF_A, HALF_B)
    images, weights = pictures.unit, pictures.weights

    def loss_of(vae: Vae, generator: torch.Generator) -> Tensor:
        chosen = torch.multinomial(weights, BATCH, generator=generator)
        target = vary(images[chosen], pictures.labels[chosen], generator).to(memory_format=torch.channels_last)
        with half():
            moments = vae.moments(target)
        mean, log_variance = (part.float() for part in moments)
        z = mean + torch.randn(mean.shape, generator=generator) * (log_variance / 2).exp()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        with half():
            decoded = vae.decode(z)
        return distance(decoded.float(), target) + KL * kl

    return loss_of


def distance(images: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of pixels, which hold the colours, and of edges, at four sizes."""
    difference, total = images - target, torch.zeros(())
    for _ in range(4):
        edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
        total = total + difference.abs().mean() + EDGES / 2 * edges
        difference = F.avg_pool2d(difference, 2)
    return total
