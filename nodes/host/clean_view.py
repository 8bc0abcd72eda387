"""How clean latents are seen as pictures with a gradient: decoded by a VAE, or as the model's rough colour preview."""

import copy
from abc import ABC, abstractmethod

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn
from torch.nn import functional as F

from ...guidance_core.errors import GuidanceError
from ...guidance_core.frozen import frozen
from .model_facts import latent_space
from .patchers import patcher_of


class View(ABC):
    """A way to see latents. patchers: of the networks among it. note: what it can and cannot see."""

    patchers: tuple[ModelPatcher, ...] = ()
    note: str

    @abstractmethod
    def of(self, model: ModelPatcher) -> nn.Module:
        """Latents of this MODEL in the sampler's scale -> pictures [B, 3, H, W] about [0, 1], never clamped or rounded.

        Raises GuidanceError where the model's latents cannot be seen so.
        """


@frozen
class Preview(View):
    """The colours that ComfyUI's preview mixes of the latent's channels."""

    note = "Without a VAE it sees the rough colours of the preview: colour and layout, no detail and no texture."

    def of(self, model):
        latents = model.get_model_object("latent_format")
        if latents.latent_rgb_factors is None:
            raise GuidanceError(
                f"ComfyUI has no colour preview for {latent_space(model)} latents: connect a VAE to the node "
                f"that loads the classifier."
            )
        return Colours(latents)


@frozen(eq=False)
class Decoded(View):
    """Pictures by a VAE's decoder. decoder: a copy, whose weights autograd may use."""

    decoder: nn.Module
    channels: int
    dtype: torch.dtype
    patchers: tuple[ModelPatcher, ...]
    note = "It sees the picture decoded by the VAE."

    def of(self, model):
        latents = model.get_model_object("latent_format")
        if latents.latent_channels != self.channels:
            raise GuidanceError(
                f"the classifier's VAE decodes {self.channels} channels, this model has {latents.latent_channels} "
                f"({latent_space(model)}): connect this model's own VAE, or a TAESD for it, to the node that loads the "
                f"classifier."
            )
        return Decoder(self.decoder, latents, self.dtype)


def view_through(vae) -> View:
    """The view through a VAE, or the preview where there is none. Raises GuidanceError for a VAE of no pictures."""
    if vae is None:
        return Preview()
    if vae.latent_dim != 2 or vae.output_channels != 3:
        raise GuidanceError("the VAE is one of video or sound: connect a VAE of pictures, or none.")
    with torch.inference_mode(False):
        decoder = copy.deepcopy(vae.first_stage_model).requires_grad_(False)
    return Decoded(decoder, vae.latent_channels, vae.vae_dtype, (patcher_of(decoder),))


def check_single_pictures(model: ModelPatcher) -> None:
    """Raise GuidanceError unless the MODEL makes one picture a latent."""
    if model.get_model_object("latent_format").latent_dimensions != 2:
        raise GuidanceError(
            f"the classifier judges single pictures, and this model makes something else ({latent_space(model)} "
            f"latents): use a model of pictures."
        )


class Colours(nn.Module):
    """ComfyUI's linear colour preview of latents, as pictures about [0, 1]."""

    def __init__(self, latents):
        super().__init__()
        self.reshape = latents.latent_rgb_factors_reshape
        bias = latents.latent_rgb_factors_bias
        self.register_buffer("factors", torch.tensor(latents.latent_rgb_factors).T)  # [3, C]
        self.register_buffer("bias", None if bias is None else torch.tensor(bias))

    def forward(self, x0: Tensor) -> Tensor:
        x0 = self.reshape(x0) if self.reshape is not None else x0
        bias = None if self.bias is None else self.bias.to(x0)
        return (F.linear(x0.movedim(1, -1), self.factors.to(x0), bias).movedim(-1, 1) + 1) / 2


class Decoder(nn.Module):
    """A VAE's decoder without its clamp: latents in the sampler's scale -> pictures about [0, 1]."""

    def __init__(self, decoder: nn.Module, latents, dtype: torch.dtype):
        super().__init__()
        self.decoder, self.latents, self.dtype = decoder, latents, dtype

    def forward(self, x0: Tensor) -> Tensor:
        pictures = self.decoder.decode(self.latents.process_out(x0).to(self.dtype))
        return (pictures.float() + 1) / 2
