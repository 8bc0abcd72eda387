"""DigitsUNet: the demo's class-conditional network, x_t -> v on 16x16 images."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..classifier.latent_encoder import ResidualBlock, ScalarEmbedding, group_norm

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # q, k, v, each [B, heads, H*W, C/heads], -> the same


def own_values(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Perturbed attention: each place sees itself alone (arXiv:2403.17377)."""
    return v


def mean_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Smoothed energy under an infinite blur: every place looks for the same (arXiv:2408.00760)."""
    return F.scaled_dot_product_attention(q.mean(-2, keepdim=True).expand_as(q), k, v)


NULL = 10
"""The eleventh label: no condition."""


class SelfAttention(nn.Module):
    """Every position attends to every other, beside a skip."""

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, attend: Attend = F.scaled_dot_product_attention) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(-1, -2).unbind(1)
        h = attend(q, k, v)  # [B, heads, H*W, C/heads]
        return x + self.out(h.transpose(-1, -2).reshape(x.shape))


class DigitsUNet(nn.Module):
    """Predicts v = alpha * eps - sigma * x0 in the VP frame at three resolutions: 16x16, 8x8, 4x4."""

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128), embedding: int = 128):
        super().__init__()
        a, b, c = widths
        self.time = ScalarEmbedding(embedding)
        self.label = nn.Embedding(NULL + 1, embedding)
        self.stem = nn.Conv2d(1, a, 3, padding=1)
        self.down = nn.ModuleList([ResidualBlock(a, a, embedding), ResidualBlock(a, b, embedding)])
        self.down_attention = SelfAttention(b)
        self.middle = nn.ModuleList([ResidualBlock(b, c, embedding), ResidualBlock(c, c, embedding)])
        self.middle_attention = SelfAttention(c)
        self.up = nn.ModuleList([ResidualBlock(c + b, b, embedding), ResidualBlock(b + a, a, embedding)])
        self.up_attention = SelfAttention(b)
        self.refine = ResidualBlock(a, a, embedding)
        self.norm = group_norm(a)
        self.out = nn.Conv2d(a, 1, 3, padding=1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, t: Tensor, y: Tensor, attends: Mapping[str, Attend] | None = None) -> Tensor:
        """v like x. x [B, 1, 16, 16] in the VP frame; t [B] in 0..999, may be fractional.

        y: classes, long [B], NULL for none; or their embeddings [B, 128].
        """
        condition = y if y.is_floating_point() else self.label(y)
        embedding = self.time(t / 50 - 10) + condition  # t spread over [-10, 10], where the sines are made for
        fine = self.down[0](self.stem(x.to(self.stem.weight.dtype)), embedding)  # 16x16
        coarse = self._attended("down", attends, self.down[1](F.avg_pool2d(fine, 2), embedding))  # 8x8
        h = self.middle[0](F.avg_pool2d(coarse, 2), embedding)  # 4x4
        h = self.middle[1](self._attended("middle", attends, h), embedding)
        h = self._attended("up", attends, self.up[0](torch.cat([double(h), coarse], 1), embedding))
        h = self.up[1](torch.cat([double(h), fine], 1), embedding)
        return self.out(F.silu(self.norm(self.refine(h, embedding)))).to(x.dtype)

    def _attended(self, place: str, attends: Mapping[str, Attend] | None, x: Tensor) -> Tensor:
        """One of the three self-attentions, in the way that is asked for: attends, by "down", "middle" and "up"."""
        attention = getattr(self, f"{place}_attention")
        return attention(x, attends[place]) if attends and place in attends else attention(x)


def double(x: Tensor) -> Tensor:
    """Twice the height and width, smoothly."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
