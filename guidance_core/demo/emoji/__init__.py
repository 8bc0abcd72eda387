"""The emoji demo: a miniature latent-diffusion model of colour emoji, its classifiers, a guide and a judge.

d = demo.emoji.load()
noise = torch.randn(11, *d.shape)
labels = torch.arange(11)
x0 = sample(cfg_guided(d.cond(labels), d.uncond, scale=3.0), noise, trailing(d.sigmas, 20))
images = d.to_image(x0)  # [11, 3, 64, 64]
"""

import json
from collections.abc import Sequence

import torch
from torch import Tensor

from ...classifier.clean import CleanClassifier, clean_classifier
from ...classifier.noisy import NoisyClassifier
from ...denoisers import Denoiser as Denoise
from ...frozen import frozen
from ...schedules import betas, sigmas_from_betas
from ..class_conditional import checked_labels, under_labels
from .classes import ATTRIBUTES, LABELS
from .judge import Guide, Judge
from .network import NULL, Denoiser
from .vae import Vae
from .weights import FOLDER
from .weights import load as load_weights


@frozen(eq=False)
class Emoji:
    """A class-conditional model of latents [B, 4, 16, 16] in the sampler's scale.

    sigmas: its training levels on VE, rising, Stable Diffusion's. classifier and attributes judge noisy latents, guide
    and judge clean images; the judge never guides. x0 = (raw - shift) * scale, raw being what the VAE has.
    preview, five rows of RGB: what a unit of each channel of x0 adds to a pixel in [-1, 1], and the pixel of none.
    """

    network: Denoiser
    vae: Vae
    classifier: NoisyClassifier
    attributes: NoisyClassifier
    guide_network: Guide
    judge: Judge
    scale: float
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
        return self._under(checked_labels(labels, len(self.labels), "emoji"))

    def decode(self, x0: Tensor) -> Tensor:
        """x0 [B, 4, 16, 16] -> images [B, 3, 64, 64] in about [0, 1], differentiable."""
        return self.vae.decode(x0.to(torch.float32) / self.scale + self.shift)

    def to_image(self, x0: Tensor) -> Tensor:
        """x0 [B, 4, 16, 16] -> images [B, 3, 64, 64] in [0, 1]."""
        return self.decode(x0).clamp(0, 1)

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, 3, 64, 64] in [0, 1] -> x0 [B, 4, 16, 16]."""
        return (self.vae.encode(images) - self.shift) * self.scale

    @property
    def guide(self) -> CleanClassifier:
        """The guide, reading the pictures of x0: it goes wherever a classifier goes."""
        return clean_classifier(self.guide_network, self.labels, to_input=self.decode)

    def _under(self, labels: Tensor) -> Denoise:
        return under_labels(self.network, self.sigmas, labels, "emoji")


def load(device: torch.device | str = "cpu") -> Emoji:
    """The shipped demo, nothing cached, on a device."""
    with torch.inference_mode(False):
        network, _ = load_weights(Denoiser(), "denoiser")
        vae, card = load_weights(Vae(), "vae")
        guide, _ = load_weights(Guide(), "guide")
        judge, _ = load_weights(Judge(), "judge")
    classifier, attributes = (
        NoisyClassifier.load(FOLDER / f"{part}.safetensors") for part in ("classifier", "attributes")
    )
    for module in (network, vae, guide, judge, classifier.network, attributes.network):
        module.to(device)
    scale, shift = float(card["latent_scale"]), float(card["latent_shift"])
    preview, sigmas = json.loads(card["preview"]), sigmas_from_betas(betas("scaled_linear", n=1000))
    return Emoji(network, vae, classifier, attributes, guide, judge, scale, shift, preview, sigmas)


__all__ = ["ATTRIBUTES", "LABELS", "NULL", "Emoji", "load"]
