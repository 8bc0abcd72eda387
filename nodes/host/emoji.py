"""The emoji demo as ComfyUI's own kinds of object: its UNet with cross-attention, a VAE of 4 x 4 pixels a latent."""

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.sd
import comfy.supported_models_base
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...guidance_core.classifier.heads import as_head
from ...guidance_core.demo import emoji
from ...guidance_core.demo.emoji.unet import CONFIG
from ...guidance_core.demo.emoji.vae import ZOOM, Vae
from ...guidance_core.errors import GuidanceError
from .classifier_files import host_classifier
from .classifiers import HostClassifier, PictureClassifier
from .clean_view import view_through
from .patchers import patcher_of


class Emoji(comfy.latent_formats.LatentFormat):
    """Latents whose scale and shift have to be undone before they are decoded; classifiers know them by this name."""

    spacial_downscale_ratio = ZOOM

    def __init__(self, demo: emoji.Emoji):
        self.scale_factor, self.shift = demo.scale, demo.shift
        *self.latent_rgb_factors, self.latent_rgb_factors_bias = demo.preview

    def process_in(self, latent: Tensor) -> Tensor:
        return (latent - self.shift) * self.scale_factor

    def process_out(self, latent: Tensor) -> Tensor:
        return latent / self.scale_factor + self.shift


class EmojiConfig(comfy.supported_models_base.BASE):
    """Stable Diffusion's betas, which are ComfyUI's default."""

    unet_config = CONFIG
    unet_extra_config = {}
    latent_format = comfy.latent_formats.LatentFormat
    supported_inference_dtypes = [torch.float32]


class EmojiModel(comfy.model_base.BaseModel):
    """ComfyUI's model, whose condition is a class: no condition is the null label, and prompts are refused."""

    def __init__(self, demo: emoji.Emoji):
        config = EmojiConfig(dict(CONFIG))
        config.latent_format = Emoji(demo)
        super().__init__(config, comfy.model_base.ModelType.V_PREDICTION)
        self.diffusion_model.load_state_dict(demo.network.unet.state_dict())
        self.class_labels = tuple(demo.labels)
        self.class_condition = demo.network.context

    def extra_conds(self, cross_attn: Tensor | None = None, **kwargs) -> dict:
        if cross_attn is None:
            cross_attn = self.class_condition(torch.tensor([emoji.NULL]))
        if cross_attn.shape[-1] != CONFIG["context_dim"]:
            raise GuidanceError(
                "Load Emoji Demo: this model takes a class, not a prompt; connect Class Condition as positive and "
                "Null-Condition Encoder (class null label) as negative."
            )
        return super().extra_conds(cross_attn=cross_attn, **kwargs)


def emoji_model(demo: emoji.Emoji) -> ModelPatcher:
    """The class-conditional emoji denoiser as a MODEL, in ComfyUI's own UNet."""
    return ModelPatcher(
        EmojiModel(demo).eval().requires_grad_(False),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


class _FirstStage(nn.Module):
    """The demo's VAE under the names that ComfyUI calls, for pictures in [-1, 1]."""

    def __init__(self, vae: Vae):
        super().__init__()
        self.vae = vae

    def decode(self, latent: Tensor, **kwargs) -> Tensor:
        return 2 * self.vae.decode(latent) - 1

    def encode(self, pixels: Tensor, **kwargs) -> Tensor:
        return self.vae.encode((pixels[:, :3] + 1) / 2)


class EmojiVAE(comfy.sd.VAE):
    """ComfyUI's VAE with the demo's network in it."""

    def __init__(self, vae: Vae):
        super().__init__(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)
        self.downscale_ratio = self.upscale_ratio = ZOOM
        self.latent_channels = CONFIG["in_channels"]
        self.first_stage_model = _FirstStage(vae).eval().to(self.vae_dtype)
        self.patcher = ModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=comfy.model_management.vae_offload_device()
        )


def guide_of(demo: emoji.Emoji, vae: EmojiVAE) -> PictureClassifier:
    """The demo's classifier of clean pictures, which takes them as the VAE decodes them."""
    network = demo.guide_network
    head, view, patcher = as_head("single"), view_through(vae), patcher_of(network)
    return PictureClassifier(network, nn.Identity(), demo.labels, head, view, patcher)


def load_emoji() -> tuple[ModelPatcher, EmojiVAE, HostClassifier, HostClassifier, PictureClassifier]:
    """The bundled demo: MODEL, VAE, noisy classifiers of classes and of attributes, classifier of clean pictures."""
    demo = emoji.load()
    vae = EmojiVAE(demo.vae)
    noisy = (host_classifier(classifier) for classifier in (demo.classifier, demo.attributes))
    return emoji_model(demo), vae, *noisy, guide_of(demo, vae)
