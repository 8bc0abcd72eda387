"""The bank of latents that the denoiser and the noisy classifiers learn from: varied pictures, encoded once."""

import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...files import read_tensors, write_tensors
from ...frozen import frozen
from .augment import vary
from .classes import looks
from .data import HALF_A, HALF_B, Pictures
from .vae import ZOOM, Vae

FORMAT = "guidance-kit-emoji-latents"
SIZE = 10000


@frozen
class Bank:
    """x0 [N, 4, 16, 16] in the sampler's scale, (raw - shift) * scale; labels long [N]; attributes bool [N, K]."""

    x0: Tensor
    labels: Tensor
    attributes: Tensor
    scale: float
    shift: float


@torch.inference_mode()
def make_bank(pictures: Pictures, vae: Vae, seed: int = 0) -> Bank:
    """Pictures of both halves, drawn by their weights and varied, encoded; scale and shift make x0's variance one."""
    pictures = pictures.of(HALF_A, HALF_B)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.multinomial(pictures.weights, SIZE, replacement=True, generator=generator)
    raw, attributes = [], []
    for part in chosen.split(50):
        images = vary(pictures.images[part].float() / 255, pictures.labels[part], generator)
        raw.append(vae.encode(images.to(memory_format=torch.channels_last)).contiguous())
        attributes.append(torch.cat([pictures.smiling[part, None], looks(images)], 1))
    x0 = torch.cat(raw)
    shift, scale = float(x0.mean()), float(1 / x0.std())
    return Bank((x0 - shift) * scale, pictures.labels[chosen], torch.cat(attributes), scale, shift)


def load_bank(pictures: Pictures, vae: Vae, file: Path) -> Bank:
    """The bank in a file, made first where there is none."""
    if not file.is_file():
        bank = make_bank(pictures, vae)
        metadata = {"format": FORMAT, "space": json.dumps([bank.scale, bank.shift])}
        tensors = {name: getattr(bank, name) for name in ("x0", "labels", "attributes")}
        write_tensors(file, tensors, metadata)
    metadata, tensors = read_tensors(file, "latent bank", FORMAT)
    scale, shift = json.loads(metadata["space"])
    return Bank(tensors["x0"], tensors["labels"], tensors["attributes"], scale, shift)


@torch.no_grad()
def preview(bank: Bank, vae: Vae, count: int = 500) -> list[list[float]]:
    """Five rows of RGB: the linear map from x0's channels, and from nothing, nearest to pixels in [-1, 1]."""
    x0 = bank.x0[:count]
    images = torch.cat([vae.decode(part / bank.scale + bank.shift) for part in x0.split(100)])
    pixels = 2 * F.avg_pool2d(images, ZOOM) - 1
    known = torch.cat([x0, torch.ones_like(x0[:, :1])], 1).movedim(1, -1).reshape(-1, 5)
    found = torch.linalg.lstsq(known, pixels.movedim(1, -1).reshape(-1, 3)).solution
    return [[round(value, 4) for value in row] for row in found.tolist()]
