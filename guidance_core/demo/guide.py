"""The guide: a small classifier of clean digits, which never saw noise, for guidance at the model's own prediction."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .data import Digits
from .judge import JudgeNetwork

FILE = Path(__file__).with_name("guide.safetensors")


class Guide(nn.Module):
    """The judge's kind of network at half its width: x0 [B, 1, 16, 16] in [-1, 1] -> logits [B, 10]."""

    def __init__(self):
        super().__init__()
        self.network = JudgeNetwork(16, 32)

    def forward(self, x0: Tensor) -> Tensor:
        return self.network((x0[:, 0] + 1) / 2)


def load_guide() -> Guide:
    """The shipped guide, which learned from one half of the digits that the denoiser learned from."""
    with torch.inference_mode(False):
        guide = Guide()
        guide.load_state_dict(load_file(FILE))
    return guide.eval().requires_grad_(False)


def halves(digits: Digits) -> tuple[Digits, Digits]:
    """Every other digit of each class: what the guide learns from, and what another judge can learn from."""
    order = digits.labels.argsort(stable=True)
    one, other = (Digits(digits.images[order[i::2]], digits.labels[order[i::2]]) for i in range(2))
    return one, other
