"""The emoji demo: a miniature latent-diffusion model of colour emoji, its classifiers, a guide and a judge.

d = demo.emoji.load()
noise = torch.randn(11, *d.shape)
labels = torch.arange(11)
x0 = sample(cfg_guided(d.cond(labels), d.uncond, scale=3.0), noise, trailing(d.sigmas, 20))
images = d.to_image(x0)  # [11, 3, 64, 64]
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...classifier.noisy import NoisyClassifier
from ...denoisers import Denoiser as Denoise
from ...denoisers import v_denoiser
from ...errors import GuidanceError
from ...schedules import betas, sigmas_from_betas
from .classes import ATTRIBUTES, LABELS
from .judge import Guide, Judge
from .network import NULL, Denoiser
from .vae import Vae
from .weights import FOLDER
from .weights import load as load_weights


@dataclass(frozen=True, eq=False)
class Emoji:
    """A class-conditional model of latents [B, 4, 16, 16] in the sampler's scale.

    sigmas: its training levels on VE, rising, Stable Diffusion's. classifier and attributes judge noisy latents, guide
    and judge clean images; the judge never guides. x0 = (raw - shift) * factor, raw being what the VAE has.
    preview, five rows of RGB: what a unit of each channel of x0 adds to a pixel in [-1, 1], and the pixel of none.
    """

    network: Denoiser
    vae: Vae
    classifier: NoisyClassifier
    attributes: NoisyClassifier
    guide_network: Guide
    judge: Judge
    factor: float
    shift: float
    preview: list[list[float]]
    sigmas: Tensor
    shape: tuple[int, int, int] = (4, 16, 16)
    labels: tuple[str, ...] = LABELS

    @property
    def uncond(self) -> Denoise:
        """The denoiser (x, sigma) -> denoised on VE under no condition."""
        return self._under(torch.tensor([NULL]))

    def cond(self, labels: Tensor | Sequence[int] | int) -> Denoise:
        """The denoiser on VE under labels [B], or one label for all. Raises GuidanceError for a label that is none."""
        labels = torch.as_tensor(labels).reshape(-1).long()
        wrong = labels[(labels < 0) | (labels >= len(self.labels))]
        if len(wrong):
            raise GuidanceError(f"The emoji's labels are 0 to {len(self.labels) - 1}, got {int(wrong[0])}.")
        return self._under(labels)

    def decode(self, x0: Tensor) -> Tensor:
        """x0 [B, 4, 16, 16] -> images [B, 3, 64, 64] in about [0, 1], differentiable."""
        return self.vae.decode(x0.to(torch.float32) / self.factor + self.shift)

    def to_image(self, x0: Tensor) -> Tensor:
        """x0 [B, 4, 16, 16] -> images [B, 3, 64, 64] in [0, 1]."""
        return self.decode(x0).clamp(0, 1)

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, 3, 64, 64] in [0, 1] -> x0 [B, 4, 16, 16]."""
        return (self.vae.encode(images) - self.shift) * self.factor

    def guide(self, x0: Tensor) -> Tensor:
        """What the clean guide makes of x0 [B, 4, 16, 16]: logits [B, 11], differentiable."""
        return self.guide_network(self.decode(x0))

    def _under(self, labels: Tensor) -> Denoise:
        denoiser = v_denoiser(self.network, self.sigmas)

        def conditioned(x: Tensor, sigma: Tensor | float) -> Tensor:
            if len(labels) not in (1, len(x)):
                raise GuidanceError(
                    f"The emoji were given {len(labels)} labels for {len(x)} samples: give one for each."
                )
            return denoiser(x, sigma, y=labels.to(x.device).expand(len(x)))

        return conditioned


def load(device: torch.device | str = "cpu") -> Emoji:
    """The shipped demo, nothing cached, on a device."""
    with torch.inference_mode(False):
        (network, _), (vae, card), (guide, _), (judge, _) = (
            load_weights(kind(), part)
            for kind, part in ((Denoiser, "denoiser"), (Vae, "vae"), (Guide, "guide"), (Judge, "judge"))
        )
    classifiers = [NoisyClassifier.load(FOLDER / f"{part}.safetensors") for part in ("classifier", "attributes")]
    for module in (network, vae, guide, judge, *(c.network for c in classifiers)):
        module.to(device)
    factor, shift = float(card["latent_scale"]), float(card["latent_shift"])
    sigmas = sigmas_from_betas(betas("scaled_linear", n=1000))
    preview = json.loads(card["preview"])
    return Emoji(network, vae, *classifiers, guide, judge, factor, shift, preview, sigmas)


__all__ = ["ATTRIBUTES", "LABELS", "NULL", "Emoji", "load"]
