"""CLIP's text tower: what it makes of texts, in the space in which the vision tower of the same CLIP sees pictures."""

import os
from collections.abc import Sequence

import torch
from comfy.clip_model import CLIPTextModel
from comfy.sd1_clip import SDClipModel
from torch import Tensor, nn
from torch.nn import functional as F

from ...guidance_core.errors import GuidanceError, shortened
from ...guidance_core.files import read_header

PROJECTION = ("text_projection", "text_projection.weight")  # what files call it
PAIRS = (
    "ViT-bigG's text tower is in SDXL's checkpoints and ViT-H's in SD 2's; ViT-L's whole CLIP is a file of its own, "
    "which both loaders read"
)


def shared_width(clip_vision) -> int:
    """The size of a CLIP_VISION's embeddings, which texts share. Raises GuidanceError where it has no text tower."""
    projection = getattr(clip_vision.model, "visual_projection", None)
    if clip_vision.model_type != "clip_vision_model" or not isinstance(projection, nn.Linear):
        raise GuidanceError(
            f"this CLIP vision model ({clip_vision.model_type.removesuffix('_vision_model')}) sees pictures alone: "
            f"texts need a CLIP one (ViT-L, ViT-H or ViT-bigG)."
        )
    if _is_missing(projection.weight):
        raise GuidanceError(
            "the CLIP vision model's file lacks its projection (visual_projection), by which pictures and texts are "
            "compared: load a file that has it."
        )
    return projection.out_features


def embedded_texts(clip, texts: Sequence[str], width: int) -> Tensor:
    """Embeddings [N, width] of length 1, by the text tower of a CLIP whose embeddings have that size.

    Raises GuidanceError where the CLIP has no such tower, where its file lacks the tower's projection, and for a text
    that is too long for it.
    """
    key, tower = _tower_of(clip, width)
    _check_projection(clip, tower)
    tokens = {text: clip.tokenize(text) for text in texts}
    for text, pieces in tokens.items():
        if len(pieces[key]) > 1:
            raise GuidanceError(
                f"'{shortened(text)}' is longer than the {tower.max_length - 2} pieces of words that CLIP reads."
            )
    clip.load_model(tokens[texts[0]])
    tower.reset_clip_options()
    tower.set_clip_options({"execution_device": clip.patcher.load_device, "projected_pooled": True})
    try:
        rows = [tower.encode_token_weights(pieces[key])[1].float().cpu() for pieces in tokens.values()]
    finally:
        tower.reset_clip_options()
    return F.normalize(torch.cat(rows), dim=1)


def _tower_of(clip, width: int) -> tuple[str, SDClipModel]:
    """(the name of its tokens, the tower)."""
    towers = {
        name.removeprefix("clip_"): tower
        for name, tower in clip.cond_stage_model.named_children()
        if isinstance(tower, SDClipModel) and isinstance(tower.transformer, CLIPTextModel)
    }
    if not towers:
        raise GuidanceError(f"this text encoder holds no CLIP, whose towers are compared: {PAIRS}.")
    for key, tower in towers.items():
        if tower.transformer.text_projection.out_features == width:
            return key, tower
    sizes = " and ".join(str(tower.transformer.text_projection.out_features) for tower in towers.values())
    raise GuidanceError(
        f"the CLIP vision model gives {width} numbers and the text encoder {sizes}, so that they are of different "
        f"CLIPs: {PAIRS}."
    )


def _check_projection(clip, tower: SDClipModel) -> None:
    """Raise GuidanceError where the tower's projection was not in its file: ComfyUI fills it with what comes."""
    weight = tower.transformer.text_projection.weight
    files = _files_of(clip)
    if _is_missing(weight) or (files and not any(_holds(file, tuple(weight.shape)) for file in files)):
        raise GuidanceError(
            f"the text encoder's file lacks its projection (text_projection), by which texts and pictures are "
            f"compared, as those of SD 1.5 and Flux do: {PAIRS}."
        )


def _is_missing(weight: Tensor) -> bool:
    """Whether a projection is what stands for none: zeros, the identity, or no numbers."""
    weight = weight.float()
    square = weight.shape[0] == weight.shape[1]
    identity = square and torch.equal(weight, torch.eye(len(weight)).to(weight))
    return identity or not bool(weight.isfinite().all()) or not bool(weight.any())


def _files_of(clip) -> list[str]:
    """The safetensors files that ComfyUI loaded a CLIP from, as far as it noted them."""
    noted = clip.patcher.cached_patcher_init
    first = noted[1][0] if noted and noted[1] else ()
    files = first if isinstance(first, list | tuple) else [first]
    return [file for file in files if isinstance(file, str) and file.endswith(".safetensors") and os.path.isfile(file)]


def _holds(file: str, shape: tuple[int, ...]) -> bool:
    """Whether a file has a projection of this shape; one that cannot be read is believed."""
    try:
        tensors = read_header(file, "text encoder", None).tensors
    except GuidanceError:
        return True
    return any(name.endswith(PROJECTION) and declared.shape == shape for name, declared in tensors.items())
