"""The VAE: images [B, 3, 64, 64] <-> latents [B, 4, 16, 16], plain residual convolutions without norms.

Stable Diffusion's layout normalises in 32 groups: at this width every channel would be a group of its own, and the
strength of colours, which is the mean of channels, would be lost.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LATENT = 4
ZOOM = 4  # pixels a latent
FINE, COARSE = 32, 80


class Block(nn.Module):
    """Two convolutions beside a skip; the second begins small, so that a deep stack begins as the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class Double(nn.Module):
    """Twice the height and width."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def halve(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 4, stride=2, padding=1)


class Vae(nn.Module):
    """Raw latents, as ComfyUI's VAE nodes pass them: the model's scale and shift are not applied here."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, FINE, 3, padding=1), halve(FINE, FINE), Block(FINE)),
            *(halve(FINE, COARSE), Block(COARSE), Block(COARSE)),
            nn.Conv2d(COARSE, 2 * LATENT, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            *(nn.Conv2d(LATENT, COARSE, 3, padding=1), Block(COARSE), Block(COARSE), Block(COARSE)),
            *(Double(COARSE, 2 * FINE), Block(2 * FINE), Double(2 * FINE, FINE), Block(FINE)),
            *(nn.SiLU(), nn.Conv2d(FINE, 3, 3, padding=1)),
        )

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, log-variance) of the latents of images [B, 3, H, W] in [0, 1], each [B, 4, H/4, W/4]."""
        mean, log_variance = self.encoder(2 * images - 1).chunk(2, 1)
        return mean, log_variance.clamp(-20, 10)

    def encode(self, images: Tensor) -> Tensor:
        """The mean latents [B, 4, H/4, W/4] of images [B, 3, H, W] in [0, 1]."""
        return self.moments(images)[0]

    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, H, W] of latents [B, 4, H/4, W/4]; they may leave [0, 1] a little."""
        return (self.decoder(latents) + 1) / 2
