"""Networks of our own under ComfyUI's memory management."""

import copy

import comfy.model_management
from comfy.model_patcher import ModelPatcher
from torch import nn


def patcher_of(network: nn.Module) -> ModelPatcher:
    """A patcher by which ComfyUI loads and unloads a network together with the diffusion model."""
    patcher = ModelPatcher(
        network,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    patcher.cached_patcher_init = (_for_another_device, (network,))
    return patcher


def _for_another_device(network: nn.Module, disable_dynamic: bool = False) -> ModelPatcher:
    """A patcher with weights of its own, which MultiGPU CFG Split wants of all that is loaded with a model."""
    return patcher_of(copy.deepcopy(network))
