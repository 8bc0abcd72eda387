"""ComfyUI's own transformers, made small and random: those of Stable Diffusion 3, Flux, Z-Image, Wan and others."""

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.supported_models_base
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

TEXT = 16  # numbers in a token of the probe's conditions; 8 in their pooled output
FLUX = {
    "in_channels": 16,
    "context_in_dim": TEXT,
    "hidden_size": 32,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 3,
    "depth_single_blocks": 3,
    "axes_dim": [4, 6, 6],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "out_channels": 16,
    "vec_in_dim": 8,
    "guidance_embed": False,
    "txt_ids_dims": [],
}
SD3 = {
    "input_size": None,
    "in_channels": 16,
    "out_channels": 16,
    "depth": 3,
    "adm_in_channels": 8,
    "pos_embed_scaling_factor": None,
    "pos_embed_max_size": 16,
    "num_patches": 256,
    "x_block_self_attn": True,
    "x_block_self_attn_layers": [0, 1],
    "qk_norm": "rms",
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": TEXT, "out_features": 192}},
}
CHROMA = {key: value for key, value in FLUX.items() if key != "guidance_embed"} | {
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 32,
    "hidden_dim": 32,
    "n_layers": 1,
    "vec_in_dim": None,
}
QWEN = {
    "num_layers": 4,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": TEXT,
    "axes_dims_rope": (4, 6, 6),
}
LUMINA = {
    "in_channels": 16,
    "dim": 32,
    "n_layers": 4,
    "n_refiner_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 1,
    "multiple_of": 32,
    "qk_norm": True,
    "cap_feat_dim": TEXT,
    "axes_dims": (4, 6, 6),
    "axes_lens": (64, 64, 64),
}
WAN = {"dim": 32, "ffn_dim": 64, "freq_dim": 32, "text_dim": TEXT, "num_heads": 2, "num_layers": 4}
LTX = {
    "in_channels": 16,
    "cross_attention_dim": 32,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "caption_channels": TEXT,
    "num_layers": 4,
}
HUNYUAN = {
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 8,
    "context_in_dim": TEXT,
    "hidden_size": 32,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 3,
    "depth_single_blocks": 3,
    "axes_dim": [4, 6, 6],
    "theta": 256,
    "patch_size": [1, 2, 2],
    "qkv_bias": True,
    "guidance_embed": False,
    "byt5": False,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
    "meanflow_sum": False,
}
FLOW = comfy.model_base.ModelType.FLOW


class LTXV(comfy.model_base.LTXV):
    """The probe's conditions have no mask of their tokens."""

    def extra_conds(self, **kwargs):
        return {"attention_mask": comfy.conds.CONDConstant(None), **super().extra_conds(**kwargs)}


TRANSFORMERS = {  # ComfyUI's model, its latents, its way to mix noise, and its network's settings
    "SD3": (comfy.model_base.SD3, comfy.latent_formats.SD3, FLOW, SD3),
    "Flux": (comfy.model_base.Flux, comfy.latent_formats.Flux, comfy.model_base.ModelType.FLUX, FLUX),
    "Chroma": (comfy.model_base.Chroma, comfy.latent_formats.Flux, comfy.model_base.ModelType.FLUX, CHROMA),
    "Qwen-Image": (comfy.model_base.QwenImage, comfy.latent_formats.Wan21, FLOW, QWEN),
    "Lumina": (comfy.model_base.Lumina2, comfy.latent_formats.Flux, FLOW, LUMINA),
    "Wan": (comfy.model_base.WAN21, comfy.latent_formats.Wan21, FLOW, WAN),
    "LTX-Video": (LTXV, comfy.latent_formats.Wan21, FLOW, LTX),
    "Hunyuan Video": (comfy.model_base.HunyuanVideo, comfy.latent_formats.Wan21, FLOW, HUNYUAN),
}


def transformer(family: str, dtype: torch.dtype = torch.float32) -> ModelPatcher:
    """A MODEL of a family whose network has random weights and logs its calls in `calls`."""
    kind, latent_format, mixing, settings = TRANSFORMERS[family]
    config = type(
        "Config", (comfy.supported_models_base.BASE,), {"latent_format": latent_format, "unet_extra_config": {}}
    )
    made = config(dict(settings) | {"dtype": dtype})
    model = kind(made, mixing)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.diffusion_model.named_parameters():
        spread = 0.2 if parameter.ndim > 1 else 0.05
        values = spread * torch.randn(parameter.shape, generator=generator)
        parameter.copy_(1 + values if name.endswith(("norm.weight", "scale")) else values)
    for _, buffer in model.diffusion_model.named_buffers():
        if buffer.is_floating_point():  # of Stable Diffusion 3 the places, which come from the file
            buffer.copy_(torch.randn(buffer.shape, generator=generator))
    network = model.diffusion_model
    network.calls = []
    network.register_forward_pre_hook(_log, with_kwargs=True)
    model.eval().requires_grad_(False)
    device = comfy.model_management.get_torch_device()
    return ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def _log(network, args, kwargs):
    conditions = kwargs["transformer_options"].get("cond_or_uncond", [])
    network.calls.append((float(args[1][0]), list(conditions)))


class ProbeTransformer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeTransformer",
            inputs=[
                io.Combo.Input("family", options=list(TRANSFORMERS)),
                io.Combo.Input("dtype", options=["fp32", "bf16", "fp16"]),
                io.Int.Input("nonce", default=0),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, family, dtype, nonce):
        return io.NodeOutput(
            transformer(family, {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype])
        )
