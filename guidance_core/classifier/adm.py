"""AdmEncoder: the noise-aware ImageNet classifiers of ADM (arXiv:2105.05233), under the names of their weights."""

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import GuidanceError
from ..schedules import betas

SCHEDULES = ("linear", "cosine")
STEP = 1e-3  # a level this near to a training step is that step: log-SNRs arrive in single precision


class AdmEncoder(nn.Module):
    """Logits of p(y | x_t) for noisy pixels [B, 3, S, S] in the VP frame, data in [-1, 1].

    The encoder half of a U-Net: at each of several resolutions `depth` residual blocks of width * multiplier channels,
    self-attention after those whose resolution is in `attention`, and one more block that halves the resolution; then
    block, attention, block, and an attention pool. It knows the noise level as a step of its training schedule, here
    the one of equal log-SNR, fractional between two.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        image_size: int,
        width: int,
        multipliers: list[float],
        depth: int,
        attention: list[int],
        head_channels: int = 64,
        schedule: str = "linear",
        steps: int = 1000,
    ):
        super().__init__()
        self.image_size, self.width, self.schedule, self.steps = image_size, width, schedule, steps
        embedding = 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        widths = [int(multiplier * width) for multiplier in multipliers]
        if schedule not in SCHEDULES or steps < 2 or depth < 1 or image_size % 2 ** (len(widths) - 1):
            raise ValueError(f"schedule {schedule} of {steps} steps, depth {depth}, {len(widths)} resolutions")
        if any(out < 32 or out % 32 for out in widths):
            raise ValueError(f"channels {widths} in groups of 32")
        before = widths[0]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(channels, before, 3, padding=1)])])
        for level, out in enumerate(widths):
            for _ in range(depth):
                block = nn.ModuleList([Residual(before, out, embedding)])
                if image_size >> level in attention:
                    block.append(Attention(out, head_channels))
                self.input_blocks.append(block)
                before = out
            if level < len(widths) - 1:
                self.input_blocks.append(nn.ModuleList([Residual(out, out, embedding, halve=True)]))
        self.middle_block = nn.ModuleList(
            [Residual(before, before, embedding), Attention(before, head_channels), Residual(before, before, embedding)]
        )
        pool = Pool(before, (image_size >> (len(widths) - 1)) ** 2, classes, head_channels)
        self.out = nn.Sequential(nn.GroupNorm(32, before), nn.SiLU(), pool)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """x [B, 3, S, S], log_snr [B] -> float32 logits [B, classes]. Raises GuidanceError for any other size."""
        if x.ndim != 4 or x.shape[2:] != (self.image_size, self.image_size):
            raise GuidanceError(
                f"this classifier was made for pictures of {self.image_size} x {self.image_size} pixels and got "
                f"{' x '.join(str(side) for side in x.shape[2:])}."
            )
        dtype = next(self.time_embed.parameters()).dtype
        embedding = self.time_embed(sinusoids(self.step_at(log_snr), self.width).to(dtype))
        h = x.to(dtype)
        for block in (*self.input_blocks, self.middle_block):
            for layer in block:
                h = layer(h, embedding) if isinstance(layer, Residual) else layer(h)
        return self.out(h)

    def step_at(self, log_snr: Tensor) -> Tensor:
        """The training step of a log-SNR [B], fractional between two, as float32."""
        levels = step_log_snrs(self.schedule, self.steps)
        value = log_snr.detach().cpu().double()
        above = torch.searchsorted(-levels, -value).clamp(1, self.steps - 1)
        share = (levels[above - 1] - value) / (levels[above - 1] - levels[above])
        step = (above - 1 + share).clamp(0, self.steps - 1)
        step = torch.where((step - step.round()).abs() < STEP, step.round(), step)
        return step.to(log_snr.device, torch.float32)


@cache
def step_log_snrs(schedule: str, steps: int) -> Tensor:
    """The log-SNR of every training step, float64, falling."""
    with torch.inference_mode(False), torch.device("cpu"):
        scale = {"start": 0.1 / steps, "end": 20 / steps} if schedule == "linear" else {}
        abar = (1 - betas(schedule, steps, **scale)).cumprod(0)
        return abar.log() - torch.log1p(-abar)


def sinusoids(step: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of a step [B] at periods of 2 pi to 20000 pi: [B, width]."""
    half = width // 2
    rates = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=step.device) / half)
    angles = step[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], 1)


def heads(channels: int, head_channels: int) -> int:
    """How many heads of attention. Raises ValueError unless they come out even."""
    if channels % head_channels:
        raise ValueError(f"{channels} channels in heads of {head_channels}")
    return channels // head_channels


class Residual(nn.Module):
    """Two normalised convolutions beside a skip; the embedding scales and shifts the second normalisation.

    halve: average both branches over 2x2 pixels, before the first convolution.
    """

    def __init__(self, channels: int, out: int, embedding: int, halve: bool = False):
        super().__init__()
        self.halve = halve
        self.in_layers = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        norm, activation, conv = self.in_layers
        h = activation(norm(x))
        if self.halve:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        h = conv(h)
        norm, *rest = self.out_layers
        scale, shift = self.emb_layers(embedding)[:, :, None, None].chunk(2, 1)
        h = norm(h) * (1 + scale) + shift
        for layer in rest:
            h = layer(h)
        return self.skip_connection(x) + h


class Attention(nn.Module):
    """Every position attends to every other, beside a skip. The channels of qkv are ordered by head first."""

    def __init__(self, channels: int, head_channels: int):
        super().__init__()
        self.heads = heads(channels, head_channels)
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x).flatten(2)).unflatten(1, (self.heads, 3, -1))  # [B, heads, 3, C/heads, H*W]
        h = F.scaled_dot_product_attention(*qkv.transpose(-1, -2).unbind(2))
        return x + self.proj_out(h.transpose(-1, -2).flatten(1, 2)).reshape(x.shape)


class Pool(nn.Module):
    """The mean over positions attends to itself and all of them: [B, C, H, W] -> [B, out]. Here q, k, v come first."""

    def __init__(self, channels: int, positions: int, out: int, head_channels: int):
        super().__init__()
        self.heads = heads(channels, head_channels)
        self.positional_embedding = nn.Parameter(torch.zeros(channels, positions + 1))
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        x = torch.cat([x.mean(2, keepdim=True), x], 2) + self.positional_embedding
        qkv = self.qkv_proj(x).unflatten(1, (3, self.heads, -1))  # [B, 3, heads, C/heads, 1 + H*W]
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        pooled = F.scaled_dot_product_attention(q[:, :, :1], k, v).flatten(1)  # only the mean's answer is used
        weight, bias = self.c_proj.parameters()
        return F.linear(pooled.float(), weight[:, :, 0].float(), bias.float())
