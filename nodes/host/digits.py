"""The bundled digits as ComfyUI's own kinds of object: a V_PREDICTION model, and a VAE of 8 x 8 pixels a latent."""

from collections.abc import Callable
from functools import partial

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.sd
import comfy.supported_models_base
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...guidance_core import demo
from ...guidance_core.classifier.heads import as_head
from ...guidance_core.demo.data import LABELS
from ...guidance_core.demo.guide import load_guide
from ...guidance_core.demo.network import Attend
from ...guidance_core.demo.pictures import INK, PAPER, ZOOM, latents, tones
from ...guidance_core.errors import GuidanceError
from .classifiers import PictureClassifier
from .clean_view import View
from .model_facts import latent_space
from .patchers import patcher_of


class Digits(comfy.latent_formats.LatentFormat):
    """One channel, -1 background to 1 stroke."""

    latent_channels = 1
    latent_rgb_factors = [[(ink - paper) for paper, ink in zip(PAPER, INK, strict=True)]]
    latent_rgb_factors_bias = [(ink + paper - 1) for paper, ink in zip(PAPER, INK, strict=True)]


class DigitsConfig(comfy.supported_models_base.BASE):
    unet_config = {"disable_unet_model_creation": True}
    latent_format = Digits
    # ComfyUI calls betas that are linear themselves "sqrt_linear"; its "linear" is linear in sqrt(beta)
    sampling_settings = {"beta_schedule": "sqrt_linear", "linear_start": 1e-4, "linear_end": 0.02}
    supported_inference_dtypes = [torch.float32]


ATTENTIONS = {"down": (("input", 1), 8), "middle": (("middle", 0), 4), "up": (("output", 0), 8)}  # block, side


class DigitsNetwork(nn.Module):
    """The demo's UNet behind ComfyUI's calling convention: a class travels as its embedding, a context [B, 1, 128]."""

    dtype = torch.float32

    def __init__(self, network: nn.Module, null_label: int):
        super().__init__()
        self.network = network
        self.null_label = null_label

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, **kwargs) -> Tensor:
        attends = _attends(kwargs.get("transformer_options") or {})
        if context is None:
            return self.network(x, timesteps, torch.full((x.shape[0],), self.null_label, device=x.device), attends)
        if context.shape[1:] != (1, self.network.label.embedding_dim):
            raise GuidanceError(
                "Load Digits Demo: this model takes a class, not a prompt; connect Class Condition as positive and "
                "Null-Condition Encoder (class null label) as negative."
            )
        return self.network(x, timesteps, context[:, 0], attends)


def _attends(options: dict) -> dict[str, Attend]:
    """The attentions that hooks of ComfyUI's replace, as in its UNets."""
    hooks = options.get("patches_replace", {}).get("attn1", {})
    replaced = {place: (hooks.get(block), side) for place, (block, side) in ATTENTIONS.items()}
    return {place: partial(_by_hook, hook, side) for place, (hook, side) in replaced.items() if hook is not None}


def _by_hook(hook: Callable, side: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What a hook makes of an attention of side x side places: it takes and gives [B, H*W, heads * C/heads]."""
    heads = q.shape[1]
    about = {"n_heads": heads, "attn_precision": None, "activations_shape": [len(q), heads * q.shape[-1], side, side]}
    out = hook(*(each.transpose(1, 2).flatten(2) for each in (q, k, v)), about)
    return out.unflatten(2, (heads, -1)).transpose(1, 2)


def digits_model(digits) -> ModelPatcher:
    """The class-conditional digits denoiser as a MODEL; its class names are model.class_labels."""
    model = comfy.model_base.BaseModel(
        DigitsConfig(dict(DigitsConfig.unet_config)), comfy.model_base.ModelType.V_PREDICTION
    )
    model.diffusion_model = DigitsNetwork(digits.network, null_label=len(digits.labels))
    model.class_labels = tuple(digits.labels)
    classes = digits.network.label.weight.clone()  # the network's own move to its device
    model.class_condition = lambda indices: classes[indices][:, None]
    model.eval().requires_grad_(False)
    return ModelPatcher(
        model,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


class _Pixels(nn.Module):
    """Latents as pictures in two colours: paper at -1, ink at 1."""

    def __init__(self):
        super().__init__()
        paper, ink = (2 * torch.tensor(colour).reshape(1, 3, 1, 1) - 1 for colour in (PAPER, INK))
        self.pixel_space_vae = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("paper", paper)
        self.register_buffer("ink", ink)

    def decode(self, latent: Tensor, **kwargs) -> Tensor:
        return self.paper + tones(latent) * (self.ink - self.paper)

    def encode(self, pixels: Tensor, **kwargs) -> Tensor:
        line = self.ink - self.paper
        tone = ((pixels[:, :3] - self.paper) * line).sum(1, keepdim=True) / (line**2).sum()
        return latents(tone)


class DigitsVAE(comfy.sd.VAE):
    """ComfyUI's pixel-space VAE with the digits' own pictures in it."""

    def __init__(self):
        super().__init__(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)
        self.downscale_ratio = self.upscale_ratio = ZOOM
        self.latent_channels = 1
        self.first_stage_model = _Pixels().eval().to(self.vae_dtype)
        self.patcher = ModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=comfy.model_management.vae_offload_device()
        )


def load_digits():
    """(MODEL, VAE, NoisyClassifier) of the bundled demo."""
    digits = demo.load()
    return digits_model(digits), DigitsVAE(), digits.classifier


class AsTheyAre(View):
    """The digits' latents, which are pictures already."""

    note = "It sees the digits as they are: this model's latents are its pictures."

    def of(self, model):
        if not isinstance(model.get_model_object("latent_format"), Digits):
            raise GuidanceError(
                f"the clean classifier of Load Digits Demo judges digits alone, and this model has "
                f"{latent_space(model)} latents: use Load Image Classifier."
            )
        return nn.Identity()


def digits_guide() -> PictureClassifier:
    """The bundled classifier of clean digits, as CLEAN_CLASSIFIER carries it."""
    network = load_guide()
    return PictureClassifier(network, nn.Identity(), LABELS, as_head("single"), AsTheyAre(), patcher_of(network))
