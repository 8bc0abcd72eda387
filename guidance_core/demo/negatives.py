"""Samples of the bundled models, to set one's own pictures against."""

from torch import Tensor

from .. import demo
from ..errors import GuidanceError
from ..progress import Work
from ..schedules import trailing
from ..train.negatives import draw_from, draw_negatives
from . import emoji

STEPS = 25


def drawn_negatives(name: str, count: int) -> Work[Tensor]:
    """Draw `count` samples of the model of digits or of emoji, see `draw_negatives`. Raises it for another name."""
    if name not in ("digits", "emoji"):
        raise GuidanceError(f"--negatives must be a folder of shards, digits or emoji, got '{name}'.")
    model = demo.load() if name == "digits" else emoji.load()
    return draw_negatives(draw_from(model.uncond, model.shape, trailing(model.sigmas, STEPS)), count)
