"""The judge: a clean digit classifier that never guides, and the measures it takes of samples."""

import os
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..assess.distance import frechet_distance as frechet_distance  # for those who look for it here
from ..frozen import frozen

FILE = Path(__file__).with_name("judge.safetensors")


class JudgeNetwork(nn.Module):
    """A plain convolutional network: images [B, H, W] in [0, 1] -> logits [B, 10]."""

    def __init__(self, width: int = 32, features: int = 64):
        super().__init__()

        def block(channels: int, out: int) -> list[nn.Module]:
            return [nn.Conv2d(channels, out, 3, padding=1), nn.GroupNorm(4, out), nn.SiLU()]

        self.features = nn.Sequential(
            *block(1, width),
            *block(width, width),
            nn.MaxPool2d(2),
            *block(width, 2 * width),
            *block(2 * width, 2 * width),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * 16, features),
            nn.SiLU(),
        )
        self.head = nn.Linear(features, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images[:, None].float()))


@frozen(eq=False, repr=False)
class Judge:
    """Callable: images [B, 16, 16] in [0, 1] -> log-probabilities [B, 10].

    held_out_accuracy: on real digits it never saw. spread: the mean distance in pixel space between two real held-out
    digits of one class, the unit of `diversity`.
    """

    network: JudgeNetwork
    held_out_accuracy: float
    spread: float

    @classmethod
    def load(cls, file: str | os.PathLike = FILE) -> "Judge":
        """The shipped judge."""
        with torch.inference_mode(False), safe_open(file, framework="pt") as handle:
            network = JudgeNetwork()
            network.load_state_dict({name: handle.get_tensor(name) for name in handle.keys()})  # noqa: SIM118
            metadata = handle.metadata()
        network.eval().requires_grad_(False)
        return cls(network, float(metadata["held_out_accuracy"]), float(metadata["spread"]))

    def __repr__(self) -> str:
        return f"Judge(clean digits; {self.held_out_accuracy:.1%} right on real ones held out)"

    def __call__(self, images: Tensor) -> Tensor:
        return self.network(images).log_softmax(1)

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer, [B, 64]."""
        return self.network.features(images[:, None].float())

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """The share of images that the judge puts in the class that was asked for."""
        return float((self(images).argmax(1) == labels.to(images.device)).float().mean())

    def diversity(self, images: Tensor, labels: Tensor) -> float:
        """Mean pixel distance within a class over that of real digits: 1 is as varied as reality."""
        return within_class_distance(images, labels) / self.spread


def within_class_distance(images: Tensor, labels: Tensor) -> float:
    """Mean over classes of the mean L2 distance between two images of the class. images [B, H, W], labels [B]."""
    groups = [images[labels.to(images.device) == label].flatten(1).float() for label in labels.unique()]
    return float(torch.stack([torch.pdist(group).mean() for group in groups if len(group) > 1]).mean())
