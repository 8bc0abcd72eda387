"""The size of pictures that a demo's model was made for, and what is said where another one is sampled."""

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ..ui.messages import say

KEY = "guidance_kit_usual_size"


def with_usual_size(model: ModelPatcher, side: int, zoom: int, node_id: str | None) -> ModelPatcher:
    """A MODEL for pictures of side x side latents, zoom pixels each; its loader says where it must make others."""
    model.model.usual_size = (side, zoom)

    def outer_sample(executor, noise, *args, **kwargs):
        if odd := odd_size(executor.class_obj.model_patcher, noise.shape):
            say(node_id, odd)
        return executor(noise, *args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, outer_sample)
    return model


def usual_latent(model: ModelPatcher) -> dict:
    """An empty LATENT of one picture of the usual size."""
    side, zoom = model.model.usual_size
    channels = model.model.latent_format.latent_channels
    return {"samples": torch.zeros(1, channels, side, side), "downscale_ratio_spacial": zoom}


def odd_size(model: ModelPatcher, shape: tuple[int, ...]) -> str:
    """A sentence where latents of this shape are not of the size that the model makes; else nothing."""
    side, zoom = getattr(model.model, "usual_size", (None, 1))
    if side is None or tuple(shape[2:]) == (side, side):
        return ""
    asked, usual = (f"{width * zoom} x {height * zoom}" for height, width in (shape[2:], (side, side)))
    return f"Sampled at {asked} pixels: this model makes {usual}, and scribbles at others. Connect its loader's latent."
