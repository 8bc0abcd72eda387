"""Vision models with random weights, and what they are to the bit."""

import comfy.clip_vision
import torch
from comfy_api.latest import io

VISION = {  # the host's own kinds, small: hidden size, and what their configurations say
    "clip": {"model_type": "clip_vision_model", "hidden_act": "quick_gelu", "projection_dim": 24},
    "siglip": {"model_type": "siglip_vision_model", "hidden_act": "gelu_pytorch_tanh", "image_mean": [0.5] * 3},
    "dino": {"model_type": "dinov2", "layer_norm_eps": 1e-6, "use_swiglu_ffn": False},
    "naflex": {"model_type": "siglip2_vision_model", "hidden_act": "gelu_pytorch_tanh", "num_patches": 16},
}


class ProbeVision(io.ComfyNode):
    """A CLIP_VISION with random weights."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeVision",
            inputs=[io.Combo.Input("kind", options=list(VISION)), io.Int.Input("nonce", default=0)],
            outputs=[io.ClipVision.Output()],
        )

    @classmethod
    def execute(cls, kind, nonce):
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
        vision = comfy.clip_vision.ClipVisionModel(
            {**sizes, "image_size": 28, "patch_size": 7, "num_channels": 3, **VISION[kind]}
        )
        generator = torch.Generator().manual_seed(0)
        for name, weight in vision.model.state_dict().items():
            if weight.is_floating_point():
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator) + ("norm" in name))
        return io.NodeOutput(vision)


class ProbeVisionSum(io.ComfyNode):
    """All weights of a CLIP_VISION and what it makes of a picture, as text: the same text is the same to the bit."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeVisionSum",
            inputs=[io.ClipVision.Input("vision"), io.Image.Input("image"), io.Int.Input("nonce", default=0)],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, vision, image, nonce):
        weights = sum(float(w.double().sum()) for w in vision.model.state_dict().values())
        kept = sorted({str(w.is_inference()) for w in vision.model.parameters()})
        embedded = vision.encode_image(image)["image_embeds"].double().sum()
        return io.NodeOutput(ui={"text": [f"{weights!r} {kept} {float(embedded)!r}"]})
