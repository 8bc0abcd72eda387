"""Regional guidance: the scale by place in the picture and by latent channel."""

import torch
from torch.nn import functional as F

from ..errors import GuidanceError
from ..frozen import frozen
from ..params import number, socket, text
from . import order
from .base import Method, Phase


def weights_of_channels(listed):
    """Numbers written as text, by comma. Raises GuidanceError for anything else."""
    try:
        return [float(entry) for entry in listed.split(",")] if listed.strip() else []
    except ValueError:
        raise GuidanceError(
            f"channels must be numbers by comma, one for each latent channel, such as '1, 1, 0.5, 0.5'; got '{listed}'."
        ) from None


def fitted(mask, like):
    """A mask [H, W] or [M, H, W] as weights that broadcast against like [B, C, (T,) H, W]; fewer masks repeat."""
    mask = mask.to(like).reshape(-1, 1, *mask.shape[-2:])
    mask = F.interpolate(mask, like.shape[-2:], mode="bilinear", antialias=True)
    mask = mask[torch.arange(len(like)) % len(mask)]
    return mask[:, :, None] if like.ndim == 5 else mask


@frozen(eq=False)
class Regional(Method):
    name = "regional"
    title = "Regional"
    doc = "Follows the prompt more in one part of the picture than in another, or in some latent channels only."
    source = "per-element scale 1 + (scale - 1) * weight; spatial scales: Shen et al. 2024, arXiv:2404.05384"
    rank = order.PLACES
    reads_level = False
    outside: float = number(
        0.3, -1.0, 2.0, 0.05, "Strength where the mask is black; 1 is as strong as where it is white."
    )
    channels: str = text("", "Strength by latent channel, such as 1, 1, 0.5, 0.5; empty is all alike.", advanced=True)
    mask: object = socket("mask", "White where to guide at the full scale; without it the whole picture is outside.")

    def __post_init__(self):
        super().__post_init__()
        weights_of_channels(self.channels)

    def start(self, run):
        channels = weights_of_channels(self.channels)

        def weight(like):
            if like.ndim < 4:
                raise GuidanceError(f"regional needs pictures or video, got {list(like.shape)}: use another method.")
            inside = torch.zeros((), device=like.device) if self.mask is None else fitted(self.mask, like)
            weight = self.outside + (1 - self.outside) * inside
            if not channels:
                return weight
            if len(channels) != like.shape[1]:
                raise GuidanceError(
                    f"channels has {len(channels)} numbers, this model {like.shape[1]} latent channels: give one each."
                )
            return weight * torch.tensor(channels, device=like.device, dtype=like.dtype).reshape(
                -1, *[1] * (like.ndim - 2)
            )

        return {Phase.DIFFERENCE: lambda p: p.with_difference(p.difference * weight(p.x))}
