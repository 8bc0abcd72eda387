"""The denoiser: (x_t [B, 4, 16, 16], t, context tokens) -> v, in the layout of Stable Diffusion's UNet.

The names and behaviour of all weights are those that ComfyUI's UNetModel has under CONFIG, which loads them: attention
patches, LoRA and perturbed attention act on it as on Stable Diffusion.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD = 32
CONFIG: dict[str, Any] = {
    "image_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "num_res_blocks": [1, 1, 0],
    "channel_mult": [1, 2, 2],
    "transformer_depth": [0, 1],
    "transformer_depth_output": [0, 0, 1, 0, 0],
    "transformer_depth_middle": 1,
    "num_heads": -1,
    "num_head_channels": HEAD,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "context_dim": 64,
    "use_checkpoint": False,
    "legacy": False,
}
"""ComfyUI's `unet_config` of this network."""
WIDTHS: list[int] = [CONFIG["model_channels"] * factor for factor in CONFIG["channel_mult"]]
EMBEDDING = 4 * WIDTHS[0]
CONTEXT = CONFIG["context_dim"]


class Block(nn.Module):
    """Two normalised convolutions with the time in between, beside a skip."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(EMBEDDING, out))
        last = zeroed(nn.Conv2d(out, out, 3, padding=1))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, out), nn.SiLU(), nn.Identity(), last)
        self.skip_connection = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(time)[..., None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Attention(nn.Module):
    """Positions x [B, N, C] attend to tokens [B, M, width]."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(width, channels, bias=False)
        self.to_v = nn.Linear(width, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        layers = ((self.to_q, x), (self.to_k, tokens), (self.to_v, tokens))
        q, k, v = (layer(y).unflatten(-1, (-1, HEAD)).transpose(1, 2) for layer, y in layers)  # [B, heads, N, HEAD]
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class GatedLinear(nn.Module):
    def __init__(self, channels: int, out: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.net = nn.Sequential(GatedLinear(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Attention to itself, attention to the condition, feed-forward."""

    def __init__(self, channels: int):
        super().__init__()
        self.attn1, self.attn2 = Attention(channels, channels), Attention(channels, CONTEXT)
        self.ff = FeedForward(channels)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    """One transformer block over the positions of a feature map, beside a skip."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels)])
        self.proj_out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        h = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))  # [B, H*W, C]
        h = self.proj_out(self.transformer_blocks[0](h, context))
        return x + h.transpose(1, 2).unflatten(2, x.shape[2:])


class Halve(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        return self.op(x)


class Double(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Stage(nn.ModuleList):
    """Layers that follow one another and all know of the time and the condition."""

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, time, context)
        return x


class EmojiUNet(nn.Module):
    """Three resolutions, 16, 8 and 4, with transformers at the two coarser ones, where the condition comes in."""

    def __init__(self):
        super().__init__()
        first, repeats = WIDTHS[0], CONFIG["num_res_blocks"]
        self.time_embed = nn.Sequential(nn.Linear(first, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))
        stem = nn.ModuleList([nn.Conv2d(CONFIG["in_channels"], first, 3, padding=1)])
        down: list[nn.ModuleList] = [stem]
        kept, width = [first], first
        depths = iter(CONFIG["transformer_depth"])
        for level, out in enumerate(WIDTHS):
            for _ in range(repeats[level]):
                down.append(stage(width, out, next(depths)))
                kept.append(width := out)
            if level < len(WIDTHS) - 1:
                down.append(Stage([Halve(width)]))
                kept.append(width)
        up: list[nn.ModuleList] = []
        depths = reversed(CONFIG["transformer_depth_output"])
        middle = stage(width, width, CONFIG["transformer_depth_middle"])
        middle.append(Block(width, width))
        for level, out in reversed(list(enumerate(WIDTHS))):
            for i in range(repeats[level] + 1):
                up.append(stage(width + kept.pop(), out, next(depths)))
                width = out
                if level and i == repeats[level]:
                    up[-1].append(Double(width))
        self.input_blocks = nn.ModuleList(down)
        self.middle_block = middle
        self.output_blocks = nn.ModuleList(up)
        end = zeroed(nn.Conv2d(first, CONFIG["out_channels"], 3, padding=1))
        self.out = nn.Sequential(nn.GroupNorm(32, first), nn.SiLU(), end)

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """v like x. x [B, 4, 16, 16] in the VP frame; t [B] in 0..999, may be fractional; context [B, M, 64]."""
        time = self.time_embed(waves(t, WIDTHS[0]).to(x.dtype))
        stem, *blocks = self.input_blocks
        h = next(iter(stem.children()))(x)
        skips = [h]
        for block in blocks:
            h = block(h, time, context)
            skips.append(h)
        h = self.middle_block(h, time, context)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], 1), time, context)
        return self.out(h)


def stage(channels: int, out: int, depth: int) -> Stage:
    """A block, and where depth is 1 a transformer after it."""
    return Stage([Block(channels, out), *(Transformer(out) for _ in range(depth))])


def waves(t: Tensor, size: int) -> Tensor:
    """Cosines and sines of t [B] at `size` / 2 frequencies from 1 down to nearly 1 / 10000: [B, size]."""
    half = size // 2
    angles = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half, device=t.device) / half)
    return torch.cat([angles.cos(), angles.sin()], 1)


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with zeros for weights, so that what it ends adds nothing at first."""
    for weights in layer.parameters():
        nn.init.zeros_(weights)
    return layer
