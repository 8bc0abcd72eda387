"""A process that has ComfyUI and our pack in it, and the models that benchmarks sample there."""

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from devtools import host, launch

PACK = "guidance_kit"


def enter() -> None:
    """Make ComfyUI importable in this process and load our pack as ComfyUI does."""
    prepare()
    load_pack()


def prepare(base: str | None = None) -> None:
    """Make ComfyUI importable in this process, on the CPU, whatever else the machine has.

    What the benchmarks time without ComfyUI runs there, and is set against what they time in it.
    base: its base directory (models, input, output, user).
    """
    folder = host.comfyui()
    launch.prepare()
    sys.path.insert(0, str(folder))  # before ours: both have a module `nodes`, and this one is ComfyUI's
    from comfy.cli_args import args

    args.cpu = True
    args.base_directory = base
    args.use_pytorch_cross_attention = True  # ComfyUI's choice on NVIDIA GPUs; on a CPU it would take one much slower
    logging.getLogger().setLevel(logging.ERROR)
    importlib.import_module("comfyui_version")


def load_pack() -> ModuleType:
    """Our pack, loaded from its folder as ComfyUI loads it."""
    places = [str(host.ROOT)]
    spec = importlib.util.spec_from_file_location(PACK, host.ROOT / "__init__.py", submodule_search_locations=places)
    sys.modules[PACK] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pack(name: str) -> ModuleType:
    """A module of our pack as ComfyUI has loaded it, such as `nodes.cfg_combine`."""
    return importlib.import_module(f"{PACK}.{name}")


def node(name: str, **inputs):
    """Run a node of our pack, `module.Class`, and give its first output."""
    module, _, kind = name.rpartition(".")
    return getattr(pack(f"nodes.{module}"), kind).PREPARE_CLASS_CLONE(None).execute(**inputs).result[0]


def combined(model, scale: float = 6.0, method: str = "standard", schedule: dict | None = None, **parameters):
    """MODEL under CFG Combine."""
    made = pack("guidance_core.scale").ScaleSchedule(**schedule) if schedule else None
    return node(
        "cfg_combine.CFGCombine", model=model, scale=scale, method={"method": method, **parameters}, schedule=made
    )


def steered(model, scale: float):
    """The digits' MODEL under Classifier Guidance by their classifier."""
    return node(
        "classifier_guidance.ClassifierGuidance",
        model=model,
        classifier=pack("nodes.host.classifier_files").host_classifier(pack("nodes.host.digits").load_digits()[2]),
        target="seven",
        scale=scale,
        entropy_aware=False,
        max_shift=0.0,
    )


def digits():
    """The bundled digits as a MODEL, its conditions for "seven" and for no class."""
    model = pack("nodes.host.digits").load_digits()[0]
    condition = pack("nodes.class_condition").label_conditioning
    return model, condition(model, [7]), condition(model, [10])


def sd15(width: int = 320):
    """A MODEL of Stable Diffusion 1.5's shape with random weights, and two random conditions."""
    import comfy.model_base
    import comfy.supported_models

    unet = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": width,
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": (1, 2, 4, 4),
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "context_dim": 768,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "legacy": False,
        "dtype": torch.float32,
    }
    torch.manual_seed(0)
    model = comfy.model_base.BaseModel(comfy.supported_models.SD15(unet), comfy.model_base.ModelType.EPS)
    randomised(model.diffusion_model)
    conditions = [[[torch.randn(1, 77, 768), {}]] for _ in range(2)]
    return patcher(model), *conditions


@torch.no_grad()
def randomised(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights that keep activations of the order of 1: ComfyUI's layers begin with whatever is in memory."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
        else:
            parameter.fill_(0.0)
    for part in network.modules():
        if "Norm" in type(part).__name__ and getattr(part, "weight", None) is not None:
            part.weight.fill_(1.0)
    return network


def patcher(model: torch.nn.Module):
    """A model under ComfyUI's memory management."""
    import comfy.model_management
    from comfy.model_patcher import ModelPatcher

    model.eval().requires_grad_(False)
    return ModelPatcher(
        model, load_device=comfy.model_management.get_torch_device(), offload_device=torch.device("cpu")
    )


def karras(model, steps: int) -> Tensor:
    """The falling sigmas of ComfyUI's karras scheduler."""
    import comfy.samplers

    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "karras", steps)


def sampled(
    model, positive, negative, noise: Tensor, sigmas: Tensor, cfg: float = 6.0, guider=None, callback=None
) -> Tensor:
    """Latents sampled with euler by ComfyUI's CFGGuider, or by another class of guider, as its sampler nodes do."""
    import comfy.samplers

    guider = (guider or comfy.samplers.CFGGuider)(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    sampler = comfy.samplers.sampler_object("euler")
    with torch.inference_mode():
        return guider.sample(
            noise, torch.zeros_like(noise), sampler, sigmas, callback=callback, disable_pbar=True, seed=0
        )


def passes_of(model, run: Callable[[], object], batch: int) -> float:
    """How many passes of the model's network a run takes, for a batch of latents."""
    network, count = model.model.diffusion_model, 0

    def counted(module, inputs):
        nonlocal count
        count += len(inputs[0])

    handle = network.register_forward_pre_hook(counted)
    try:
        run()
    finally:
        handle.remove()
    return count / batch
