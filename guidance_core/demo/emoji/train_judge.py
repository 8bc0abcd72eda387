"""How guide and judge are trained: cross-entropy on varied, blurred and slightly noisy pictures of their own half."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .augment import vary
from .data import Pictures
from .fit import Plan

GUIDE = Plan(steps=1000, learning_rate=2e-3, seed=1, weight_decay=0.05, warm_up=100, cooling=0.6, ema=0.99)
JUDGE = replace(GUIDE, seed=2)
BATCH = 32


def loss_for(pictures: Pictures):
    """The loss of a classifier on random pictures, drawn by their weights."""
    weights = pictures.weights

    def loss_of(network: nn.Module, generator: torch.Generator) -> Tensor:
        chosen = torch.multinomial(weights, BATCH, generator=generator)
        labels = pictures.labels[chosen]
        images = worn(vary(pictures.images[chosen].float() / 255, labels, generator, 1.5), generator)
        return F.cross_entropy(network(images.to(memory_format=torch.channels_last)), labels, label_smoothing=0.05)

    return loss_of


def worn(images: Tensor, generator: torch.Generator) -> Tensor:
    """images [B, 3, H, W] blurred by any amount and with a little noise, as a small VAE leaves them."""
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = torch.rand(len(images), 1, 1, 1, generator=generator)
    return images.lerp(blurred, share) + 0.03 * torch.randn(images.shape, generator=generator)
