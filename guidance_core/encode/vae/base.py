"""What encodes images: raw latents of a VAE, and the scale and shift that lead from them to the sampler's."""

from collections.abc import Callable

from torch import Tensor

from ...frozen import frozen


@frozen(eq=False)
class Encoder:
    """x0 = (raw - shift) * scale, of images whose sides are multiples of `multiple` pixels.

    raw: images [B, 3, H, W] in [0, 1] -> the VAE's own latents [B, C, h, w], without randomness (the mean). identity:
    changes with the weights. latent_space: its name, "" where that is for the user to say. size: usual side of images.
    """

    raw: Callable[[Tensor], Tensor]
    identity: str
    latent_space: str = ""
    multiple: int = 1
    size: int = 512
    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        """x0 float32 [B, C, h, w] of images [B, 3, H, W] in [0, 1]."""
        return (self.raw(images).float() - self.shift) * self.scale
