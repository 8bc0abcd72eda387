"""Encoders that ship: pixels as they are, the digits' pixels, and the emoji demo's VAE."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...demo import emoji
from .base import Encoder


def pixels(device: torch.device | str) -> Encoder:
    """The image itself, in [-1, 1]."""
    return Encoder(lambda images: 2 * images - 1, "pixels", "pixels", size=64)


def digits(device: torch.device | str) -> Encoder:
    """The brightness of an image, [B, 1, 16, 16] in [-1, 1]: what the digits demo samples."""

    def brightness(images: Tensor) -> Tensor:
        return 2 * images.mean(1, keepdim=True) - 1

    return Encoder(brightness, "digits", "digits", size=16)


def emoji_vae(device: torch.device | str) -> Encoder:
    """The emoji demo's VAE: [B, 3, 64, 64] -> [B, 4, 16, 16]."""
    demo = emoji.load(device)
    return Encoder(demo.vae.encode, "emoji", demo.classifier.latent_space, 4, 64, demo.scale, demo.shift)


BUNDLED: dict[str, Callable[[torch.device | str], Encoder]] = {
    "pixels": pixels,
    "digits": digits,
    "emoji": emoji_vae,
}
