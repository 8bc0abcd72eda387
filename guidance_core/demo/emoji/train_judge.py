"""How guide and judge are trained: cross-entropy on varied, blurred and slightly noisy pictures of their own half."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .augment import mixed, vary
from .classes import LABELS
from .data import Pictures
from .fit import Plan, half

GUIDE = Plan(steps=1000, learning_rate=2e-3, seed=1, weight_decay=0.05, warm_up=100, cooling=0.6, ema=0.99)
GUIDE_BATCH = 32
JUDGE = replace(GUIDE, steps=3000, seed=2, cooling=0.8, ema=0.998)
JUDGE_BATCH = 48
SMOOTHING = 0.05


def guide_loss(pictures: Pictures):
    """The loss of a guide on random pictures, drawn by their weights."""
    weights = pictures.weights

    def loss_of(network: nn.Module, generator: torch.Generator) -> Tensor:
        images, labels = shown(pictures, weights, GUIDE_BATCH, generator)
        return F.cross_entropy(network(images), labels, label_smoothing=SMOOTHING)

    return loss_of


def judge_loss(pictures: Pictures):
    """The loss of a judge, likewise, on mixtures of two pictures: so it tells two or three in a hundred more."""
    weights = pictures.weights

    def loss_of(network: nn.Module, generator: torch.Generator) -> Tensor:
        images, labels = shown(pictures, weights, JUDGE_BATCH, generator)
        images, shares = mixed(images, F.one_hot(labels, len(LABELS)).float(), generator)
        with half():
            logits = network(images.to(memory_format=torch.channels_last)).float()
        return F.cross_entropy(logits, shares, label_smoothing=SMOOTHING)

    return loss_of


def shown(pictures: Pictures, weights: Tensor, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(images [B, 3, H, W] in about [0, 1], labels [B]): random pictures, varied and worn."""
    chosen = torch.multinomial(weights, batch, generator=generator)
    labels = pictures.labels[chosen]
    images = worn(vary(pictures.images[chosen].float() / 255, labels, generator, 1.5), generator)
    return images.to(memory_format=torch.channels_last), labels


def worn(images: Tensor, generator: torch.Generator) -> Tensor:
    """images [B, 3, H, W] blurred by any amount and with a little noise, as a small VAE leaves them."""
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = torch.rand(len(images), 1, 1, 1, generator=generator)
    return images.lerp(blurred, share) + 0.03 * torch.randn(images.shape, generator=generator)
