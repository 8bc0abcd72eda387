"""Where the picture lies among a transformer's tokens, read off the latent while the model runs."""

import math
from collections.abc import Callable

from torch import Tensor, nn

from ....guidance_core.frozen import frozen
from .around import around_model
from .base import Options

KEY = "guidance_kit_tokens"


@frozen
class Tokens:
    """The picture's rows and columns of tokens, and how many tokens stand behind them to fill the sequence up."""

    grid: tuple[int, int]
    filling: int = 0

    @classmethod
    def of(cls, latent: tuple[int, int], patch: tuple[int, int], multiple: int = 1) -> "Tokens":
        """Those of a latent of rows and columns, a token a patch, filled up to a multiple."""
        rows, columns = (math.ceil(side / step) for side, step in zip(latent, patch, strict=True))
        return cls((rows, columns), -rows * columns % multiple)

    @property
    def at_the_end(self) -> slice:
        """Those of the picture in a sequence that ends in it, filled up."""
        return slice(-math.prod(self.grid) - self.filling, -self.filling or None)


def with_tokens(options: Options, laid_out: Callable[[nn.Module, tuple[int, int]], Tokens]) -> Options:
    """model_options under which `tokens_in` tells how the network lays out the latent's rows and columns."""

    def around(executor, x, t, c_concat, c_crossattn, control, inside, **kwargs):
        packed = kwargs.get("latent_shapes")  # of picture and sound in one latent
        rows, columns = (packed[0] if packed else x.shape)[-2:]
        tokens = laid_out(executor.class_obj.diffusion_model, (rows, columns))
        return executor(x, t, c_concat, c_crossattn, control, {**inside, KEY: tokens}, **kwargs)

    return around_model(options, KEY, around)


def tokens_in(inside: Options) -> Tokens:
    """The tokens of the pass under way."""
    return inside[KEY]


def image_in(inside: Options, image: Tensor, joined: bool) -> slice:
    """Which tokens of a sequence are of the picture: of those that a block is given, or the same behind those of text.

    joined: whether the text's are among those that it is given.
    """
    count = image.shape[1] - (inside["img_slice"][0] if joined else 0)
    references = sum(inside.get("reference_image_num_tokens", ()))  # of pictures to edit, behind the one that is made
    return slice(-count, -references or None)
