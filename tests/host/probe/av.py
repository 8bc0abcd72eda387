"""A small random model of picture and sound, whose latents travel as one flat tensor."""

import comfy.conds
import comfy.model_base
import comfy.nested_tensor
import torch
from comfy_api.latest import io
from torch import nn


class AVModel(comfy.model_base.BaseModel):
    """Tells its network the shapes of the parts, as ComfyUI's LTXAV does."""

    def extra_conds(self, **kwargs):
        return super().extra_conds(**kwargs) | {"latent_shapes": comfy.conds.CONDConstant(kwargs["latent_shapes"])}


class AVNetwork(nn.Module):
    """A denoiser of [picture [B, 4, T, H, W], sound [B, 2, T, F]], neither of which sees the other."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        self.picture, self.sound = nn.Conv3d(4, 4, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.prompt = nn.Linear(16, 6)

    def forward(self, x, timesteps, context=None, *args, **kwargs):
        picture, sound = x
        bias = self.prompt(context.mean(1))
        pictured = self.picture(picture) + 4 * torch.tanh(picture + bias[:, :4, None, None, None])
        return [pictured, self.sound(sound) + 4 * torch.tanh(sound + bias[:, 4:, None, None])]


class ProbeNested(io.ComfyNode):
    """An empty latent of picture and sound."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeNested",
            inputs=[io.Int.Input("length", default=6), io.Int.Input("channels", default=4)],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, length, channels):
        parts = torch.zeros(1, channels, 2, 8, 8), torch.zeros(1, 2, length, 4)
        return io.NodeOutput({"samples": comfy.nested_tensor.NestedTensor(parts)})
