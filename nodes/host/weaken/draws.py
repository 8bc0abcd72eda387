"""What ways to weaken draw at random: the same from the same seed at the same noise level, another at each level."""

import struct

import torch

from ..architectures import Options

SPREAD = 0x9E3779B1  # odd, so that seeds are told apart at every level


def drawn_at(inside: Options, seed: int, place: int = 0) -> torch.Generator:
    """A generator for the pass under way; place: which draw of the pass it is for. inside: transformer_options."""
    level = int.from_bytes(struct.pack("<f", float(inside["sigmas"][0])), "little")
    return torch.Generator().manual_seed((level + SPREAD * (seed + place * 0x10001)) % 2**32)
