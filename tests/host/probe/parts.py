"""What a checkpoint holds beside its model, made small: a text encoder and a VAE of any number of channels."""

import zlib

import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import nn

ZOOM = 8


class Encoder:
    """Every text has a condition of its own."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        generator = torch.Generator().manual_seed(zlib.crc32(text.encode()))
        return [[2 * torch.randn(1, 7, 16, generator=generator), {"pooled_output": torch.zeros(1, 8)}]]


class Pixels(nn.Module):
    """Latents as pictures: three of their channels, enlarged."""

    def __init__(self, channels):
        super().__init__()
        self.pixel_space_vae = nn.Parameter(torch.ones(channels))  # tells VAEs apart in the latent cache
        self.channels = channels

    def decode(self, latent, **kwargs):
        return torch.tanh(latent[:, :3]).repeat_interleave(ZOOM, -1).repeat_interleave(ZOOM, -2)

    def encode(self, pixels, **kwargs):
        small = nn.functional.avg_pool2d(pixels[:, :3], ZOOM)
        return small.repeat(1, -(-self.channels // 3), 1, 1)[:, : self.channels]


class Vae(comfy.sd.VAE):
    def __init__(self, channels):
        super().__init__(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)
        self.downscale_ratio = self.upscale_ratio = ZOOM
        self.latent_channels = channels
        self.first_stage_model = Pixels(channels).eval().to(self.vae_dtype)
        self.patcher = ModelPatcher(self.first_stage_model, load_device=self.device, offload_device=self.device)


class ProbeParts(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeParts",
            inputs=[io.Int.Input("channels", default=4)],
            outputs=[io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, channels):
        return io.NodeOutput(Encoder(), Vae(channels))
