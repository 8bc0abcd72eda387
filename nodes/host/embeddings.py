"""What a CLIP_VISION makes of pictures, with a gradient: embeddings, and their likeness to references."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...guidance_core.errors import GuidanceError
from .pixels import Prepared

SHARPNESS = 100.0  # of cosines, CLIP's own
UNSUITED = ("siglip2_vision_model",)  # which takes pictures cut into patches of many sizes


class Embedder(nn.Module):
    """A copy of a CLIP_VISION's network: pixels -> embeddings [B, D] of length 1."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        # ComfyUI's layers add in place on what autograd has kept
        with torch.autograd.graph.saved_tensors_hooks(_kept_apart, lambda kept: kept):
            embedded = self.model(pixel_values=pixels, intermediate_output=-2)[2]
        embedded = embedded.mean(1) if embedded.ndim == 3 else embedded  # of tokens, where there is none for the whole
        return F.normalize(embedded.float(), dim=1)


def _kept_apart(tensor: Tensor) -> Tensor:
    return tensor if isinstance(tensor, nn.Parameter) else tensor.clone()


class Likeness(nn.Module):
    """Pixels -> the mean cosine to each group of references, times 100: logits [B, groups]."""

    def __init__(self, embedder: Embedder, groups: list[Tensor]):
        super().__init__()
        self.embedder = embedder
        for i, group in enumerate(groups):
            self.register_buffer(f"group_{i}", group)

    def forward(self, pixels: Tensor) -> Tensor:
        embedded = self.embedder(pixels)
        means = torch.stack([group.to(embedded).mean(0) for group in self._buffers.values()])  # [groups, D]
        return SHARPNESS * embedded @ means.T


def embedder_of(clip_vision) -> tuple[Embedder, Prepared]:
    """(a copy of a CLIP_VISION's network, what prepares pictures for it). The CLIP_VISION is not touched.

    Raises GuidanceError for a kind that takes no whole pictures.
    """
    if clip_vision.model_type in UNSUITED:
        raise GuidanceError(
            "this CLIP vision model takes pictures in pieces of many sizes (SigLIP 2 naflex): use CLIP, SigLIP or DINO."
        )
    with torch.inference_mode(False):
        embedder = Embedder(copy.deepcopy(clip_vision.model)).requires_grad_(False)
        size = (clip_vision.image_size,) * 2
        return embedder, Prepared(size, list(clip_vision.image_mean), list(clip_vision.image_std))


@torch.no_grad()
def embedded(embedder: Embedder, prepared: Prepared, images: Tensor, device: torch.device) -> Tensor:
    """Embeddings [N, D] of an IMAGE [N, H, W, C], one by one."""
    pictures = images[..., :3].movedim(-1, 1).float()
    return torch.cat([embedder(prepared(picture[None].to(device))).cpu() for picture in pictures])
