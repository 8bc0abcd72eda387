"""Aesthetic heads: files of a few linear layers over a CLIP vision model's embeddings, rebuilt from their shapes."""

import os
import re
from pathlib import Path
from pickle import UnpicklingError

import folder_paths
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...guidance_core.errors import GuidanceError
from .embeddings import Embedder
from .image_folders import FOLDER

ENDINGS = (".safetensors", ".pth", ".pt")
MAX_BYTES = 256 * 2**20
MAX_LAYERS = 16
LAYER = re.compile(r"(?:.*?(\d+)\.)?(weight|bias)")
BROKEN = (OSError, ValueError, RuntimeError, LookupError, TypeError, EOFError, SafetensorError, UnpicklingError)


class AestheticScore(nn.Module):
    """Pixels -> the head's score of their embedding, [B, 1]."""

    def __init__(self, embedder: Embedder, head: nn.Module):
        super().__init__()
        self.embedder, self.head = embedder, head

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.embedder(pixels))


def heads() -> list[str]:
    """The files in models/classifiers that may be heads."""
    roots = (Path(root) for root in folder_paths.get_folder_paths(FOLDER))
    return sorted({file.name for root in roots if root.is_dir() for file in root.iterdir() if file.suffix in ENDINGS})


def head_named(name: object) -> Path | None:
    """Where a file of models/classifiers is; None for what is none there."""
    if not isinstance(name, str) or Path(name).name != name or Path(name).suffix not in ENDINGS:
        return None
    files = (Path(root) / name for root in folder_paths.get_folder_paths(FOLDER))
    return next((file for file in files if os.path.isfile(file)), None)


def load_head(file: Path) -> nn.Sequential:
    """Embeddings [B, D] -> score [B, 1], from a file of linear layers; a pickle's code is not run.

    Raises GuidanceError for what is no chain of linear layers that ends in one number.
    """
    if file.stat().st_size > MAX_BYTES:
        raise GuidanceError(f"'{file.name}' is larger than {MAX_BYTES // 2**20} MiB: it is no aesthetic head.")
    try:
        if file.suffix == ".safetensors":
            weights = load_file(file)
        else:
            weights = torch.load(file, map_location="cpu", weights_only=True)
    except BROKEN as error:
        raise GuidanceError(
            f"'{file.name}' cannot be read as plain weights: get it anew, or as safetensors."
        ) from error
    layers = _layers(file, weights)
    with torch.inference_mode(False):
        chain = nn.Sequential(*(nn.Linear(w.shape[1], w.shape[0], bias=b is not None) for w, b in layers))
        for linear, (weight, bias) in zip(chain, layers, strict=True):
            linear.weight.data = weight.float().clone()
            if bias is not None:
                linear.bias.data = bias.float().clone()
    return chain.eval().requires_grad_(False)


def _layers(file: Path, weights: object) -> list[tuple[Tensor, Tensor | None]]:
    """(weight, bias) of each layer, in the order of their numbers."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, value in weights.items() if isinstance(weights, dict) else ():
        match = LAYER.fullmatch(name) if isinstance(name, str) and isinstance(value, Tensor) else None
        if match is None:
            raise GuidanceError(
                f"'{file.name}' holds more than linear layers ('{str(name)[:80]}'): it is no aesthetic head."
            )
        found.setdefault(int(match[1] or 0), {})[match[2]] = value
    layers = [(found[place].get("weight"), found[place].get("bias")) for place in sorted(found)]
    before = None
    for weight, bias in layers:
        plain = weight is not None and weight.ndim == 2 and weight.is_floating_point() and bool(weight.isfinite().all())
        fits = plain and before in (None, weight.shape[1]) and (bias is None or bias.shape == weight.shape[:1])
        if not fits:
            raise GuidanceError(f"'{file.name}' is no chain of linear layers: their shapes do not follow each other.")
        before = weight.shape[0]
    if before != 1 or len(layers) > MAX_LAYERS:
        raise GuidanceError(f"'{file.name}' does not end in one number, a score: it is no aesthetic head.")
    return layers


def check_fits(file: Path, head: nn.Sequential, size: int) -> None:
    """Raise GuidanceError unless the head takes embeddings of that size."""
    if head[0].in_features != size:
        raise GuidanceError(
            f"'{file.name}' was made for embeddings of {head[0].in_features} numbers, this CLIP vision model gives "
            f"{size}: load the one that it was made for (CLIP ViT-L/14 for 768)."
        )
