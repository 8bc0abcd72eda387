"""The emoji pictures that training reads, as `python -m devtools.emoji_pictures` has chosen, cleaned and split them."""

import json
from pathlib import Path

import torch
from torch import Tensor

from ...errors import GuidanceError
from ...files import read_tensors
from ...frozen import frozen

PACKAGE, VERSION = "emoji-datasource-google", "16.0.0"
WORK = Path.home() / ".cache" / "guidance-kit" / "emoji"
"""Where the package, the pictures and the state of unfinished trainings lie."""
FORMAT = "guidance-kit-emoji-pictures"

HALF_A, HALF_B, HELD_OUT = 0, 1, 2


@frozen
class Pictures:
    """images uint8 [N, 3, 64, 64] on white; labels and part long [N]; smiling bool [N].

    emoji, long [N]: one number for all variants of an emoji.
    """

    images: Tensor
    labels: Tensor
    emoji: Tensor
    part: Tensor
    smiling: Tensor
    names: tuple[str, ...]

    def of(self, *parts: int) -> "Pictures":
        """The pictures of some parts only."""
        at = torch.isin(self.part, torch.tensor(parts)).nonzero()[:, 0]
        names = tuple(self.names[i] for i in at.tolist())
        return Pictures(self.images[at], self.labels[at], self.emoji[at], self.part[at], self.smiling[at], names)

    @property
    def unit(self) -> Tensor:
        """The images as numbers in [0, 1], float [N, 3, 64, 64]."""
        return self.images.float() / 255

    @property
    def weights(self) -> Tensor:
        """How often each is drawn, adding up to 1.

        A class by the root of the number of its emoji, its emoji equally often, and so their variants.
        """
        weights = torch.zeros(len(self.labels), dtype=torch.float64)
        for label in self.labels.unique():
            _, which, variants = self.emoji[self.labels == label].unique(return_inverse=True, return_counts=True)
            weights[self.labels == label] = len(variants) ** -0.5 / variants[which].double()
        return weights / weights.sum()


def load_pictures(folder: Path = WORK) -> Pictures:
    """What the command wrote. Raises GuidanceError where it has not run."""
    file = folder / "pictures.safetensors"
    if not file.is_file():
        raise GuidanceError("There are no emoji pictures yet: run 'python -m devtools.emoji_pictures' first.")
    metadata, t = read_tensors(file, "emoji picture", FORMAT)
    names = tuple(json.loads(metadata["names"]))
    return Pictures(t["images"], t["labels"], t["emoji"], t["part"], t["smiling"], names)
