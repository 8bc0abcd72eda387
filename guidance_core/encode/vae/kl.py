"""The encoder of AutoencoderKL, the VAE of Stable Diffusion, SDXL, SD3 and Flux, sized by its weights.

Source: the layers of github.com/CompVis/latent-diffusion (arXiv:2112.10752), under their names there; diffusers' names
are translated.
"""

import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 32
DIFFUSERS = (  # diffusers' name -> the original one
    (r"^encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.", r"encoder.down.\1.block.\2."),
    (r"^encoder\.down_blocks\.(\d+)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
    (r"^encoder\.mid_block\.resnets\.0\.", "encoder.mid.block_1."),
    (r"^encoder\.mid_block\.resnets\.1\.", "encoder.mid.block_2."),
    (r"^encoder\.mid_block\.attentions\.0\.", "encoder.mid.attn_1."),
    (r"\.group_norm\.", ".norm."),
    (r"\.(?:to_q|query)\.", ".q."),
    (r"\.(?:to_k|key)\.", ".k."),
    (r"\.(?:to_v|value)\.", ".v."),
    (r"\.(?:to_out\.0|proj_attn)\.", ".proj_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"^encoder\.conv_norm_out\.", "encoder.norm_out."),
)
PREFIXES = ("", "first_stage_model.", "vae.")


class ResnetBlock(nn.Module):
    """Norm, SiLU and convolution twice, beside a skip."""

    def __init__(self, channels: int, out: int, groups: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, channels, 1e-6), nn.GroupNorm(groups, out, 1e-6)
        self.conv1, self.conv2 = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.nin_shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    """One head over all positions, beside a skip."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, 1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (part(h).flatten(2).mT.contiguous()[:, None] for part in (self.q, self.k, self.v))
        found = F.scaled_dot_product_attention(q, k, v)[:, 0].mT.reshape(x.shape)
        return x + self.proj_out(found)


class Downsample(nn.Module):
    """Half the height and width."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """The blocks of one resolution."""

    def __init__(self, channels: int, out: int, blocks: int, last: bool, groups: int):
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(channels if i == 0 else out, out, groups) for i in range(blocks))
        self.downsample = nn.Identity() if last else Downsample(out)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return self.downsample(x)


class Middle(nn.Module):
    """A block, attention, a block."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.block_1, self.block_2 = (ResnetBlock(channels, channels, groups) for _ in range(2))
        self.attn_1 = Attention(channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Convolutions(nn.Module):
    """Images [B, 3, H, W] -> moments [B, 2 * latent, h, w]."""

    def __init__(self, widths: list[int], blocks: int, latent: int, groups: int):
        super().__init__()
        pairs = zip([widths[0], *widths], widths, strict=False)
        levels = [Level(a, b, blocks, i == len(widths) - 1, groups) for i, (a, b) in enumerate(pairs)]
        self.conv_in, self.down = nn.Conv2d(3, widths[0], 3, padding=1), nn.Sequential(*levels)
        self.mid, self.norm_out = Middle(widths[-1], groups), nn.GroupNorm(groups, widths[-1], 1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 2 * latent, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.norm_out(self.mid(self.down(self.conv_in(images))))))


class KlEncoder(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] -> the mean of raw latents [B, latent, h, w]. widths: channels of each level."""

    def __init__(self, widths: list[int], blocks: int, latent: int, quantised: bool, groups: int = GROUPS):
        super().__init__()
        self.encoder = Convolutions(widths, blocks, latent, groups)
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1) if quantised else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(images)).chunk(2, 1)[0]


def kl_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors of a file, under their original names; none where it holds no such encoder."""
    prefix = next((prefix for prefix in PREFIXES if f"{prefix}encoder.conv_in.weight" in tensors), None)
    if prefix is None:
        return {}
    found = {}
    for name, tensor in tensors.items():
        own = name.removeprefix(prefix)
        if name.startswith(prefix) and own.startswith(("encoder.", "quant_conv.")):
            for pattern, original in DIFFUSERS:
                own = re.sub(pattern, original, own)
            is_matrix = ".attn_1." in own and tensor.ndim == 2
            found[own] = tensor[:, :, None, None] if is_matrix else tensor
    return found


def kl_encoder(weights: dict[str, Tensor], groups: int = GROUPS) -> KlEncoder:
    """The network that these weights are of, with them. Raises KeyError or RuntimeError where they are not whole."""
    levels = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.down."))
    widths = [len(weights[f"encoder.down.{level}.block.0.conv1.weight"]) for level in range(levels)]
    blocks = sum(bool(re.fullmatch(r"encoder\.down\.0\.block\.\d+\.conv1\.weight", name)) for name in weights)
    latent = len(weights["encoder.conv_out.weight"]) // 2
    with torch.device("meta"):
        network = KlEncoder(widths, blocks, latent, "quant_conv.weight" in weights, groups)
    network.load_state_dict(weights, assign=True)
    return network
