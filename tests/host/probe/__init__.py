"""Test nodes for a real ComfyUI: small random models that log every pass, and a node that reads results out."""

import base64
import gc
import json
import os

import comfy.cldm.cldm
import comfy.controlnet
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.multigpu
import comfy.ops
import comfy.samplers
import comfy.supported_models_base
import comfy.utils
import folder_paths
import psutil
import torch
from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import ComfyExtension, io
from safetensors.torch import save_file
from torch import nn

from .av import AVModel, AVNetwork, ProbeNested
from .decoders import ProbeDecoder, ProbeVaeBits, ProbeWatched, ProbeWatchedCalls
from .faults import ProbeCancel, ProbeKill, ProbeListings
from .foreign import ProbeForeignGuider, QuietModel
from .heard import ProbeHeard, ProbeHeardRead
from .pack import kit
from .parts import ProbeParts
from .transformers import ProbeTransformer
from .vision import ProbeTextScores, ProbeTextTower, ProbeVision, ProbeVisionSum
from .weakened import ProbeTokens, ProbeWeakened

UNET = {  # Stable Diffusion 1.5's shape, made small
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": (1, 2),
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": 16,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "legacy": False,
    "dtype": torch.float32,
}
TYPES = {
    "eps": comfy.model_base.ModelType.EPS,
    "v": comfy.model_base.ModelType.V_PREDICTION,
    "flow": comfy.model_base.ModelType.FLOW,
    "edm": comfy.model_base.ModelType.EDM,
}


class Sd15Config(comfy.supported_models_base.BASE):
    unet_extra_config = {"num_heads": 2, "num_head_channels": -1}
    latent_format = comfy.latent_formats.SD15


class VideoFormat(comfy.latent_formats.LatentFormat):
    latent_channels = 4
    latent_dimensions = 3


class VideoConfig(comfy.supported_models_base.BASE):
    latent_format = VideoFormat


class VideoNetwork(nn.Module):
    """A denoiser of [B, C, T, H, W]."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        self.inside = nn.Conv3d(4, 8, 3, padding=1)
        self.prompt = nn.Linear(16, 8)
        self.outside = nn.Conv3d(8, 4, 3, padding=1)

    def forward(self, x, timesteps, context=None, *args, **kwargs):
        bias = self.prompt(context.mean(1))[:, :, None, None, None]
        return self.outside(torch.tanh(self.inside(x) + bias))


class CausalNetwork(VideoNetwork):
    """One that video samplers take for causal; its frames do not see each other."""

    def init_kv_caches(self, *sizes):
        return []

    init_crossattn_caches = init_kv_caches


NETWORKS = {"video": VideoNetwork, "causal": CausalNetwork, "av": AVNetwork, "quiet": VideoNetwork}
BASES = {"av": AVModel, "quiet": QuietModel}


def logged(network: nn.Module) -> nn.Module:
    """Make a network keep (timestep, conditions in the batch) of each of its calls; ComfyUI numbers the conditions.

    At call number `interrupt_at` (from 1; 0 is never) it presses Cancel and goes on; at call `nan_at` it gives NaN.
    Where the network runs wrappers of its own (a step cache), what they leave out is no call.
    """
    network.calls, network.count, network.interrupt_at, network.nan_at = [], 0, 0, 0
    inside = "_forward" if hasattr(network, "_forward") else "forward"
    forward = getattr(network, inside)

    def counting(x, timesteps, context=None, y=None, control=None, transformer_options=None, **kwargs):
        options = transformer_options or {}
        network.calls.append((float(timesteps[0]), list(options.get("cond_or_uncond", []))))
        cancel(network)
        out = forward(x, timesteps, context, y, control, transformer_options=options, **kwargs)
        return out * torch.nan if network.count == network.nan_at else out

    setattr(network, inside, counting)
    return network


def cancel(network: nn.Module) -> None:
    """Count a call of a network, and press Cancel where it asks for it."""
    network.count += 1
    if network.count == network.interrupt_at:
        comfy.model_management.interrupt_current_processing()


class ProbeModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeModel",
            inputs=[
                io.Combo.Input("kind", options=[*TYPES, *NETWORKS]),
                io.Int.Input("seed", default=0),
                io.Int.Input("nonce", default=0),
                io.Int.Input("interrupt_at", default=0, optional=True),
                io.Int.Input("nan_at", default=0, optional=True),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, kind, seed, nonce, interrupt_at=0, nan_at=0):
        torch.manual_seed(seed)
        if network := NETWORKS.get(kind):
            config, base = (
                VideoConfig({"disable_unet_model_creation": True}),
                BASES.get(kind, comfy.model_base.BaseModel),
            )
            model = base(config, TYPES["flow"])
            model.diffusion_model = network()
        else:
            model = comfy.model_base.BaseModel(Sd15Config(dict(UNET)), TYPES[kind])
        for parameter in model.diffusion_model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * (0.1 if parameter.ndim > 1 else 0.02))
        model.diffusion_model = logged(model.diffusion_model)
        model.diffusion_model.interrupt_at, model.diffusion_model.nan_at = interrupt_at, nan_at
        model.eval().requires_grad_(False)
        device = comfy.model_management.get_torch_device()
        return io.NodeOutput(ModelPatcher(model, load_device=device, offload_device=torch.device("cpu")))


FAMILIES = {  # the host's own latent formats and ways to mix noise, on a small random network
    "SD15": (comfy.latent_formats.SD15, comfy.model_base.ModelType.EPS),
    "SDXL": (comfy.latent_formats.SDXL, comfy.model_base.ModelType.V_PREDICTION),
    "SD3": (comfy.latent_formats.SD3, comfy.model_base.ModelType.FLOW),
    "Flux": (comfy.latent_formats.Flux, comfy.model_base.ModelType.FLUX),
    "Wan21": (comfy.latent_formats.Wan21, comfy.model_base.ModelType.FLOW),
}
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class FamilyNetwork(nn.Module):
    """A denoiser of pictures or video in any number of channels, with weights of any type."""

    def __init__(self, channels: int, video: bool, dtype: torch.dtype):
        super().__init__()
        conv = nn.Conv3d if video else nn.Conv2d
        self.dtype = dtype
        self.inside = conv(channels, 8, 3, padding=1, dtype=dtype)
        self.prompt = nn.Linear(16, 8, dtype=dtype)
        self.outside = conv(8, channels, 3, padding=1, dtype=dtype)

    def forward(self, x, timesteps, context=None, **kwargs):
        bias = self.prompt(context.mean(1)).reshape(-1, 8, *[1] * (x.ndim - 2))
        return self.outside(torch.tanh(self.inside(x) + bias))


class ProbeFamily(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeFamily",
            inputs=[
                io.Combo.Input("family", options=list(FAMILIES)),
                io.Combo.Input("dtype", options=list(DTYPES)),
                io.Int.Input("nonce", default=0),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, family, dtype, nonce):
        torch.manual_seed(0)
        latent_format, kind = FAMILIES[family]
        config = type("Config", (comfy.supported_models_base.BASE,), {"latent_format": latent_format})
        model = comfy.model_base.BaseModel(config({"disable_unet_model_creation": True}), kind)
        channels, video = latent_format.latent_channels, latent_format.latent_dimensions == 3
        model.diffusion_model = FamilyNetwork(channels, video, DTYPES[dtype])
        model.eval().requires_grad_(False)
        device = comfy.model_management.get_torch_device()
        return io.NodeOutput(ModelPatcher(model, load_device=device, offload_device=torch.device("cpu")))


class ProbeLatents(io.ComfyNode):
    """Random latents of any shape, brighter by `level`."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeLatents",
            inputs=[io.String.Input("shape"), io.Float.Input("level", default=0.0), io.Int.Input("seed", default=0)],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, shape, level, seed):
        shape = [int(size) for size in shape.split(",")]
        generator = torch.Generator().manual_seed(seed)
        return io.NodeOutput({"samples": level + 0.5 * torch.randn(shape, generator=generator)})


class ProbeCondition(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeCondition",
            inputs=[io.Int.Input("seed", default=0)],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, seed):
        generator = torch.Generator().manual_seed(seed)
        tokens = 2 * torch.randn(1, 7, 16, generator=generator)
        return io.NodeOutput([[tokens, {"pooled_output": torch.randn(1, 8, generator=generator)}]])


class ProbeLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeLatent",
            inputs=[
                io.Int.Input("batch", default=1),
                io.Int.Input("channels", default=4),
                io.Int.Input("frames", default=0),
                io.Boolean.Input("masked", default=False),
                io.Int.Input("nonce", default=0, optional=True),
            ],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, batch, channels, frames, masked, nonce=0):
        shape = (batch, channels, frames, 16, 16) if frames else (batch, channels, 16, 16)
        generator = torch.Generator().manual_seed(5)
        samples = torch.randn(shape, generator=generator) if masked else torch.zeros(shape)
        latent = {"samples": samples}
        if masked:
            mask = torch.zeros(1, 16, 16)
            mask[:, :, :8] = 1  # the left half is painted anew
            latent["noise_mask"] = mask
        return io.NodeOutput(latent)


class VideoVAE:
    """Decodes [B, C, T, H, W] to gray frames [B, T, H, W, 3], as video VAEs do."""

    def decode(self, samples):
        return (samples.mean(1) / 8 + 0.5)[..., None].expand(*[-1] * 4, 3)


class ProbeVideoVAE(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="ProbeVideoVAE", inputs=[], outputs=[io.Vae.Output()])

    @classmethod
    def execute(cls):
        return io.NodeOutput(VideoVAE())


class ProbeClassifier(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeClassifier",
            inputs=[
                io.Int.Input("channels", default=4),
                io.String.Input("latent_space", default=""),
                io.Float.Input("nan_below_log_snr", default=-1000.0, min=-1000.0, max=1000.0),
                io.Int.Input("nonce", default=0),
                io.Int.Input("most", default=0, min=-1, optional=True),  # samples that memory holds; 0: any, -1: none
                io.Int.Input("interrupt_at", default=0, optional=True),
                io.Float.Input("gain", default=20.0, optional=True),  # of the logits; 0 is a gradient of 0
            ],
            outputs=[io.Custom("NOISY_CLASSIFIER").Output()],
        )

    @classmethod
    def execute(cls, channels, latent_space, nan_below_log_snr, nonce, most=0, interrupt_at=0, gain=20.0):
        network_module = kit("guidance_core.classifier.latent_encoder")
        torch.manual_seed(1)
        parameters = {"channels": channels, "classes": 3, **network_module.SIZES["small"]}
        network = network_module.LatentEncoder(**parameters).eval().requires_grad_(False)
        forward = network.forward
        network.calls, network.count, network.interrupt_at = [], 0, interrupt_at

        def counting(x, log_snr):
            cancel(network)
            if 0 < most < len(x) or most < 0:
                raise comfy.model_management.OOM_EXCEPTION("Tried to allocate 1 GiB")
            network.calls.append(float(log_snr[0]))
            logits = gain * forward(x, log_snr)
            return logits * torch.where(log_snr < nan_below_log_snr, torch.nan, 1.0)[:, None]

        network.forward = counting
        classifier = kit("guidance_core.classifier.noisy").NoisyClassifier(
            network, ["cat", "dog", "bird"], latent_space, parameters=parameters
        )
        return io.NodeOutput(kit("nodes.host.classifier_files").host_classifier(classifier))


class ProbeRead(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeRead",
            is_output_node=True,
            not_idempotent=True,
            inputs=[
                io.Latent.Input("latent"),
                io.Model.Input("model", optional=True),
                io.Model.Input("second_model", optional=True),
                io.Custom("NOISY_CLASSIFIER").Input("classifier", optional=True),
                io.Int.Input("nonce", default=0),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, latent, nonce, model=None, second_model=None, classifier=None):
        samples = latent["samples"].float()
        if samples.is_nested:  # its parts one after the other, as samplers see them
            samples, _ = comfy.utils.pack_latents(samples.unbind())
        samples = samples.contiguous()
        report = {
            "shape": list(samples.shape),
            "data": base64.b64encode(samples.numpy().tobytes()).decode(),
            "calls": _take(model.model.diffusion_model) if model else [],
            "second_calls": _take(second_model.model.diffusion_model) if second_model else [],
            "classifier_calls": _take(classifier.classifier.network) if classifier else [],
            "loaded": [type(m.model.model).__name__ for m in comfy.model_management.current_loaded_models if m.model],
        }
        return io.NodeOutput(ui={"text": [json.dumps(report)]})


def _take(network) -> list:
    calls, network.calls[:] = list(network.calls), []
    return calls


class ProbeExamples(io.ComfyNode):
    """The latents among labelled examples."""

    @classmethod
    def define_schema(cls):
        inputs = [io.Custom("LABELLED_LATENTS").Input("examples")]
        return io.Schema(node_id="ProbeExamples", inputs=inputs, outputs=[io.Latent.Output()])

    @classmethod
    def execute(cls, examples):
        return io.NodeOutput({"samples": examples.latents})


class ProbeKept(io.ComfyNode):
    """How many sweeps that were stopped are kept."""

    @classmethod
    def define_schema(cls):
        inputs = [io.Int.Input("nonce", default=0)]
        return io.Schema(node_id="ProbeKept", is_output_node=True, inputs=inputs, outputs=[])

    @classmethod
    def execute(cls, nonce):
        return io.NodeOutput(ui={"text": [str(len(kit("nodes.host.sweep_kept")._kept))]})


class ProbeControlNet(io.ComfyNode):
    """A random ControlNet for ProbeModel's UNet."""

    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="ProbeControlNet", inputs=[], outputs=[io.ControlNet.Output()])

    @classmethod
    def execute(cls):
        torch.manual_seed(4)
        shape = {
            name: value for name, value in UNET.items() if name not in ("out_channels", "transformer_depth_output")
        }
        network = comfy.cldm.cldm.ControlNet(
            **shape, hint_channels=3, num_heads=2, operations=comfy.ops.disable_weight_init
        )
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape) * (0.1 if parameter.ndim > 1 else 0.02))
        device = comfy.model_management.get_torch_device()
        return io.NodeOutput(comfy.controlnet.ControlNet(network.eval().requires_grad_(False), load_device=device))


class ProbeCheckpoint(io.ComfyNode):
    """Writes a Stable Diffusion 3 of the smallest size to models/diffusion_models, for ComfyUI's own loader."""

    @classmethod
    def define_schema(cls):
        inputs = [io.String.Input("name"), io.Int.Input("nonce", default=0)]
        return io.Schema(node_id="ProbeCheckpoint", is_output_node=True, inputs=inputs, outputs=[])

    @classmethod
    def execute(cls, name, nonce):
        torch.manual_seed(6)
        network = MMDiT(
            input_size=None,
            in_channels=16,
            out_channels=16,
            depth=1,
            adm_in_channels=8,
            pos_embed_scaling_factor=None,
            pos_embed_max_size=16,
            num_patches=256,
            context_embedder_config={"target": "torch.nn.Linear", "params": {"in_features": 16, "out_features": 64}},
            dtype=torch.float32,
            operations=comfy.ops.disable_weight_init,
        )
        weights = {key: 0.1 * torch.randn(value.shape) for key, value in network.state_dict().items()}
        file = os.path.join(folder_paths.get_folder_paths("diffusion_models")[0], name)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        save_file({f"model.diffusion_model.{key}": value for key, value in weights.items()}, file)
        return io.NodeOutput()


class ProbeMultiGPU(io.ComfyNode):
    """MultiGPU CFG Split as on a machine with a second device, for which the processor stands in.

    Its second output is the model there, whose network keeps (timestep, conditions in the batch) of each of its calls.
    """

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeMultiGPU",
            inputs=[io.Model.Input("model"), io.Int.Input("nonce", default=0)],
            outputs=[io.Model.Output(), io.Model.Output(display_name="second")],
        )

    @classmethod
    def execute(cls, model, nonce):
        found = comfy.model_management.get_all_torch_devices
        comfy.model_management.get_all_torch_devices = lambda exclude_current=False: [
            torch.device("cpu"),
            torch.device("cpu", 0),
        ]
        try:
            split = comfy.multigpu.create_multigpu_deepclones(model, 2)
        finally:
            comfy.model_management.get_all_torch_devices = found
        (second,) = split.get_additional_models_with_key("multigpu")
        network = second.model.diffusion_model
        network.calls = []

        def called(network, given, named):
            conditions = named["transformer_options"]["cond_or_uncond"]
            network.calls.append((float(given[1][0]), list(conditions)))

        network.register_forward_pre_hook(called, with_kwargs=True)
        return io.NodeOutput(split, second)


class ProbeObjects(io.ComfyNode):
    """How many objects of the pack live, and how much memory the server has."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeObjects",
            is_output_node=True,
            not_idempotent=True,
            inputs=[io.Int.Input("nonce", default=0)],
            outputs=[],
        )

    @classmethod
    def execute(cls, nonce):
        gc.collect()
        names = [type(each).__name__ for each in gc.get_objects()]
        kinds = ("HostRun", "TermRun", "PipelineRun", "RunReport", "CfgEvent", "PartEvent", "ModelPatcher", "Tensor")
        report = {kind: names.count(kind) for kind in kinds}
        report["resident"] = psutil.Process().memory_info().rss
        return io.NodeOutput(ui={"text": [json.dumps(report)]})


def refusing(sampling, steps):
    """A scheduler that takes an even number of steps only, and refuses others as no sentence of ours foresees."""
    assert steps % 2 == 0, "an even number of steps, please"
    return torch.linspace(10, 0, steps + 1)


# under its name alone: in no list of a node
comfy.samplers.SCHEDULER_HANDLERS["probe_even"] = comfy.samplers.SchedulerHandler(refusing)


class Probe(ComfyExtension):
    async def get_node_list(self):
        return [
            ProbeModel,
            ProbeFamily,
            ProbeForeignGuider,
            ProbeLatents,
            ProbeVision,
            ProbeVisionSum,
            ProbeTextTower,
            ProbeTextScores,
            ProbeCondition,
            ProbeLatent,
            ProbeVideoVAE,
            ProbeClassifier,
            ProbeRead,
            ProbeExamples,
            ProbeKept,
            ProbeControlNet,
            ProbeCheckpoint,
            ProbeMultiGPU,
            ProbeNested,
            ProbeObjects,
            ProbeKill,
            ProbeCancel,
            ProbeListings,
            ProbeParts,
            ProbeTransformer,
            ProbeHeard,
            ProbeHeardRead,
            ProbeDecoder,
            ProbeVaeBits,
            ProbeWatched,
            ProbeWatchedCalls,
            ProbeWeakened,
            ProbeTokens,
        ]


async def comfy_entrypoint():
    return Probe()
