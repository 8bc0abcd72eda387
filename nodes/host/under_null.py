"""A MODEL as a denoiser that answers to a null condition with a gradient, as it is learned."""

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management
import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...guidance_core import train
from ...guidance_core.terms.gradient import leave_inference_mode

MAKE_ROOM = 1e30  # all the memory that ComfyUI can give back: a backward pass needs much more than a forward one


@contextmanager
def under_null(model: ModelPatcher, extras: dict) -> "Iterator[tuple[train.null.UnderNull, torch.device]]":
    """While it lasts: (denoiser (x, sigma, null) -> denoised, the device it runs on).

    extras: of the CONDITIONING, but its embedding. The model runs as it is, without what nodes have put on its
    sampling; its weights stay as they are.
    """
    patcher = model.get_non_dynamic_delegate() if model.is_dynamic() else model
    comfy.model_management.load_models_gpu([patcher], memory_required=MAKE_ROOM, force_full_load=True)
    with torch.inference_mode(False):
        leave_inference_mode(patcher.model)
        kept = {key: value.clone() if isinstance(value, Tensor) else value for key, value in extras.items()}

    def denoiser(x: Tensor, sigma: Tensor, null: Tensor) -> Tensor:
        parts = {"positive": comfy.sampler_helpers.convert_cond([[null, kept]])}
        parts = comfy.samplers.process_conds(patcher.model, x, parts, x.device)
        options = {"transformer_options": {"sample_sigmas": sigma}}
        return comfy.samplers.calc_cond_batch(patcher.model, [parts["positive"]], x, sigma, options)[0]

    patcher.pre_run()
    try:
        yield denoiser, patcher.load_device
    finally:
        patcher.cleanup()
