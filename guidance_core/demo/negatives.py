"""Samples of the bundled models, to set one's own pictures against."""

from collections.abc import Callable

from torch import Tensor

from .. import demo
from ..progress import Work
from ..schedules import trailing
from ..train.negatives import draw_from, draw_negatives
from . import emoji

MODELS: dict[str, Callable[[], demo.Demo | emoji.Emoji]] = {"digits": demo.load, "emoji": emoji.load}
STEPS = 25


def drawn_negatives(name: str, count: int) -> Work[Tensor]:
    """Draw `count` samples of one of MODELS, see `draw_negatives`."""
    model = MODELS[name]()
    return draw_negatives(draw_from(model.uncond, model.shape, trailing(model.sigmas, STEPS)), count)
