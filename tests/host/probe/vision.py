"""Vision models and text encoders with random weights, and what they are to the bit."""

import os

import comfy.clip_model
import comfy.clip_vision
import comfy.ops
import comfy.sd
import folder_paths
import torch
from comfy_api.latest import io
from safetensors.torch import save_file
from torch.nn import functional as F

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


class ProbeTextTower(io.ComfyNode):
    """A CLIP with random weights, which ComfyUI loads from a file. kind: what is wrong with it."""

    @classmethod
    def define_schema(cls):
        kinds = ["whole", "no projection", "identity", "no tower"]
        return io.Schema(
            node_id="ProbeTextTower",
            inputs=[
                io.Combo.Input("kind", options=kinds),
                io.Int.Input("width", default=24),
                io.Int.Input("nonce", default=0),
            ],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, kind, width, nonce):
        config = {"hidden_size": width, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}
        config |= {"hidden_act": "quick_gelu", "eos_token_id": 49407, "max_position_embeddings": 77}
        network = comfy.clip_model.CLIPTextModel(config, torch.float32, "cpu", comfy.ops.manual_cast)
        generator, weights = torch.Generator().manual_seed(3), {}
        for name, weight in network.state_dict().items():
            norm = "norm" in name and name.endswith("weight")
            weights[name] = 0.3 * torch.randn(weight.shape, generator=generator) + norm
        if kind == "no projection":
            del weights["text_projection.weight"]
        if kind == "identity":
            weights["text_projection.weight"] = torch.eye(width)
        file = os.path.join(folder_paths.get_temp_directory(), f"tower {kind} {width}.safetensors")
        os.makedirs(os.path.dirname(file), exist_ok=True)
        save_file(weights, file)
        clip = comfy.sd.load_clip([file], model_options={"model_config": config})
        if kind == "no tower":
            clip.cond_stage_model = torch.nn.Module()
        return io.NodeOutput(clip)


class ProbeTextScores(io.ComfyNode):
    """Scores of a picture by a judge, the cosines that ComfyUI's own encoders give, and all of a CLIP to the bit."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeTextScores",
            inputs=[
                io.Custom("CLEAN_CLASSIFIER").Input("classifier"),
                io.Clip.Input("clip"),
                io.ClipVision.Input("vision"),
                io.Image.Input("image"),
                io.Int.Input("nonce", default=0),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, classifier, clip, vision, image, nonce):
        scores = classifier.network(classifier.prepared(image.movedim(-1, 1)))[0]
        seen = F.normalize(vision.encode_image(image)["image_embeds"].float(), dim=1)
        projection = clip.cond_stage_model.clip_l.transformer.text_projection
        pooled = [clip.encode_from_tokens(clip.tokenize(label), return_pooled=True)[1] for label in classifier.labels]
        texts = F.normalize(projection(torch.cat(pooled)), dim=1)
        weights = sum(float(w.double().sum()) for w in clip.cond_stage_model.state_dict().values())
        bits = f"{weights!r} {float(torch.cat(pooled).double().sum())!r}"
        lines = [",".join(map(str, row.tolist())) for row in (scores, 100 * (seen @ texts.T)[0])]
        return io.NodeOutput(ui={"text": [*lines, ",".join(classifier.labels), bits]})
