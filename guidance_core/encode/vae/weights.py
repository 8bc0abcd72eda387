"""A VAE from a folder in diffusers' layout, or from one safetensors file as ComfyUI has it; neither is needed."""

import json
from pathlib import Path

import torch
from torch import Tensor

from ...data.shards import digest
from ...errors import GuidanceError, shortened
from ...files import read_tensors
from ...frozen import frozen
from .base import Encoder
from .kl import GROUPS, kl_encoder, kl_weights
from .taesd import taesd_encoder, taesd_weights

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


@frozen
class LatentScale:
    """x0 = (raw - shift) * scale, in latents of so many channels."""

    scale: float
    shift: float
    channels: int


KNOWN = {
    "sd15": LatentScale(0.18215, 0.0, 4),
    "sdxl": LatentScale(0.13025, 0.0, 4),
    "sd3": LatentScale(1.5305, 0.0609, 16),
    "flux": LatentScale(0.3611, 0.1159, 16),
}
"""By the name of the latents: a file of weights does not say them."""


def from_folder(folder: Path, latent_space: str, device: torch.device | str, dtype: torch.dtype) -> Encoder:
    """The encoder of a model's `vae` folder, or of a model's folder that has one.

    Raises GuidanceError for a folder without one, and for another kind of VAE.
    """
    if not (folder / CONFIG).is_file() and (folder / "vae" / CONFIG).is_file():
        folder = folder / "vae"
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        scale, shift = float(config.get("scaling_factor") or 1.0), float(config.get("shift_factor") or 0.0)
        groups = int(config.get("norm_num_groups") or GROUPS)
    except FileNotFoundError as error:
        raise GuidanceError(f"'{folder}' holds no VAE in diffusers' layout (no {CONFIG}).") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise GuidanceError(f"'{folder / CONFIG}' cannot be read ({shortened(str(error))}).") from error
    return _encoder(folder / WEIGHTS, LatentScale(scale, shift, 0), groups, latent_space, device, dtype)


def from_file(file: Path, latent_space: str, device: torch.device | str, dtype: torch.dtype) -> Encoder:
    """The encoder in a file of weights. Raises GuidanceError where there is none, or its scale is not known."""
    return _encoder(file, KNOWN.get(latent_space), GROUPS, latent_space, device, dtype)


def _encoder(
    file: Path,
    known: LatentScale | None,
    groups: int,
    latent_space: str,
    device: torch.device | str,
    dtype: torch.dtype,
) -> Encoder:
    tensors = read_tensors(file, "VAE", None)[1]
    large, tiny = kl_weights(tensors), taesd_weights(tensors)
    try:
        network = kl_encoder(large, groups) if large else taesd_encoder(len(tiny["14.weight"])) if tiny else None
        if network is not None and tiny and not large:
            network.load_state_dict(tiny)
    except (KeyError, RuntimeError, ValueError) as error:
        raise GuidanceError(f"'{file.name}' does not hold a whole VAE ({shortened(str(error), 200)}).") from error
    if network is None:
        raise GuidanceError(f"'{file.name}' holds no encoder that is known here: AutoencoderKL's and TAESD's are.")
    network.eval().requires_grad_(False).to(device, dtype)
    identity = f"{digest(file)[:16]} {str(dtype).removeprefix('torch.')}"
    if not large:
        return Encoder(lambda images: network(images.to(device, dtype)), f"taesd {identity}", latent_space, 8)
    if known is None:
        raise GuidanceError(
            f"'{file.name}' does not say the scale of its latents: name them, as in --latent-space sdxl "
            f"({', '.join(KNOWN)})."
        )

    def raw(images: Tensor) -> Tensor:
        return network((2 * images - 1).to(device, dtype))

    channels = len(large["encoder.conv_out.weight"]) // 2
    if known.channels not in (0, channels):
        raise GuidanceError(f"'{file.name}' has latents of {channels} channels, and '{latent_space}' {known.channels}.")
    halved = sum(name.endswith("downsample.conv.weight") for name in large)
    return Encoder(raw, f"kl {identity}", latent_space, 2**halved, 512, known.scale, known.shift)
