"""Encoders of images by name: the bundled demos', a folder in diffusers' layout, or a file of weights."""

from pathlib import Path

import torch

from ...errors import GuidanceError
from .base import Encoder
from .bundled import BUNDLED
from .weights import from_file, from_folder

__all__ = ["Encoder", "encoder_of"]


def encoder_of(
    name: str, latent_space: str = "", device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Encoder:
    """The encoder that a word, a folder or a file names. Raises GuidanceError where there is none.

    latent_space: what its latents are called, which tells the scale of those in a file. dtype: in which a VAE's network
    computes; the bundled ones always do in single precision.
    """
    if name in BUNDLED:
        return BUNDLED[name](device)
    place = Path(name)
    if place.is_dir():
        return from_folder(place, latent_space, device, dtype)
    if place.is_file():
        return from_file(place, latent_space, device, dtype)
    raise GuidanceError(
        f"There is no VAE '{name}': give a folder in diffusers' layout, a .safetensors file, or one of "
        f"{', '.join(BUNDLED)}."
    )
