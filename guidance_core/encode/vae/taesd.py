"""TAESD's encoder, a tiny stand-in for that of Stable Diffusion and its kin.

Source: the layers that github.com/madebyollin/taesd publishes.
"""

from torch import Tensor, nn

WIDTH = 64
PREFIXES = ("", "encoder.", "encoder.layers.", "taesd_encoder.")


class Block(nn.Module):
    """Three convolutions beside a skip."""

    def __init__(self):
        super().__init__()
        first, second, third = (nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(3))
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.conv(x)).relu()


def taesd_encoder(channels: int) -> nn.Sequential:
    """Images [B, 3, H, W] in [0, 1] -> x0 [B, channels, H/8, W/8], already in the sampler's scale."""

    def stage() -> list[nn.Module]:
        halve = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, stride=2, bias=False)
        return [halve, Block(), Block(), Block()]

    first, last = nn.Conv2d(3, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, channels, 3, padding=1)
    return nn.Sequential(first, Block(), *stage(), *stage(), *stage(), last)


def taesd_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors of a file, under their original names; none where it holds no such encoder."""
    for prefix in PREFIXES:
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if "0.weight" in own and "14.weight" in own:
            return own
    return {}
