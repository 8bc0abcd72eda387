"""The digits demo: a small diffusion model of handwritten digits, its noisy classifier and a judge, ready to sample.

d = demo.load()
noise = torch.randn(10, *d.shape)
x0 = sample(classifier_guided(d.uncond, d.classifier, torch.arange(10), scale=2.0), noise, trailing(d.sigmas, 25))
save_images(d.to_picture(x0), "digits.png")
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..classifier.noisy import NoisyClassifier
from ..denoisers import Denoiser
from ..frozen import frozen
from ..guiders import Both
from ..schedules import betas, sigmas_from_betas
from ..tensors import per_sample
from .class_conditional import checked_labels, under_labels
from .data import LABELS, SHAPE, to_image
from .judge import Judge
from .network import NULL, Attend, DigitsUNet
from .pictures import coloured

FOLDER = Path(__file__).parent


@frozen(eq=False, repr=False)
class Demo:
    """A class-conditional model of digits [B, 1, 16, 16] in [-1, 1]. sigmas: its training levels on VE, rising."""

    network: DigitsUNet
    classifier: NoisyClassifier
    judge: Judge
    sigmas: Tensor
    shape: tuple[int, int, int] = SHAPE
    labels: tuple[str, ...] = LABELS

    @property
    def uncond(self) -> Denoiser:
        """The denoiser (x, sigma) -> denoised on VE under the null label."""
        return self._under(torch.tensor([NULL]))

    def cond(self, labels: Tensor | Sequence[int] | int) -> Denoiser:
        """The denoiser on VE under labels [B], or one label for all. Raises GuidanceError for a label outside 0..9."""
        return self._under(self._checked(labels))

    def weakened(self, labels: Tensor | Sequence[int] | int, attends: Mapping[str, Attend]) -> Denoiser:
        """cond with other self-attention, for guidance that leads away from it; attends: see DigitsUNet.forward."""
        network = partial(self.network, attends=attends)
        return under_labels(network, self.sigmas, self._checked(labels), "digits", self.shape)

    def both(self, labels: Tensor | Sequence[int] | int) -> Both:
        """(x, sigma) -> (cond, uncond) on VE in one batch, for cfg_guided. Raises GuidanceError as cond does."""
        asked = self._checked(labels)

        def twice(x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor]:
            one_each = asked if len(asked) > 1 else asked.expand(len(x))
            denoiser = self._under(torch.cat([one_each, torch.full_like(one_each, NULL)]))
            cond, uncond = denoiser(torch.cat([x, x]), per_sample(sigma, x).repeat(2)).chunk(2)
            return cond, uncond

        return twice

    @staticmethod
    def to_image(x0: Tensor) -> Tensor:
        """x0 [B, 1, 16, 16] -> images [B, 16, 16] in [0, 1], bright strokes on dark."""
        return to_image(x0)

    @staticmethod
    def to_picture(x0: Tensor) -> Tensor:
        """x0 [B, 1, 16, 16] -> [B, 3, 128, 128] in [0, 1]: as the digits look in ComfyUI."""
        return coloured(x0.float())

    def __repr__(self) -> str:
        return f"Demo(digits {list(self.shape)}: {', '.join(self.labels)}; .uncond, .cond(labels), .classifier, .judge)"

    def _checked(self, labels: Tensor | Sequence[int] | int) -> Tensor:
        return checked_labels(labels, len(self.labels), "digits")

    def _under(self, labels: Tensor) -> Denoiser:
        return under_labels(self.network, self.sigmas, labels, "digits", self.shape)


def load(device: torch.device | str = "cpu") -> Demo:
    """The shipped demo, nothing cached: networks, classifier and judge on a device."""
    with torch.inference_mode(False):
        network = DigitsUNet()
        network.load_state_dict(load_file(FOLDER / "denoiser.safetensors"))
        network.eval().requires_grad_(False).to(device)
    classifier, judge = NoisyClassifier.load(FOLDER / "classifier.safetensors"), Judge.load()
    classifier.network.to(device)
    judge.network.to(device)
    return Demo(network, classifier, judge, sigmas_from_betas(betas("linear", n=1000)))


__all__ = ["Demo", "load"]
