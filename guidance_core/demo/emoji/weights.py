"""The shipped files: weights in half precision with a card that says what they are, whence, and under which licence."""

from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ...files import read_tensors, write_tensors
from .data import PACKAGE, VERSION

FOLDER = Path(__file__).parent
FORMAT = "guidance-kit-emoji"
N = TypeVar("N", bound=nn.Module)
ABOUT = {
    "author": "Guidance Kit contributors",
    "licence": "Apache-2.0",
    "data": f"Noto Emoji, Copyright Google, by way of npm {PACKAGE} {VERSION}",
    "data_licence": "Apache-2.0",
}
"""Whose the weights are, and what they were made of."""


def save(network: nn.Module, file: Path, part: str, facts: dict[str, str]) -> None:
    """Write a network in half precision, with its card."""
    tensors = {name: t.half() for name, t in network.state_dict().items()}
    write_tensors(file, tensors, {"format": FORMAT, "part": part, **facts, **ABOUT})


def load(network: N, part: str, folder: Path = FOLDER) -> tuple[N, dict[str, str]]:
    """A network with its shipped weights, ready to use, and its card. Raises GuidanceError for a broken file."""
    card, tensors = read_tensors(folder / f"{part}.safetensors", "emoji demo", FORMAT)
    network.load_state_dict({name: t.to(torch.float32) for name, t in tensors.items()})
    return network.eval().requires_grad_(False), card
