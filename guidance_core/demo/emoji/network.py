"""The denoiser with its conditions: a table of context tokens, one row a class and one for no condition."""

from torch import Tensor, nn

from .classes import LABELS
from .unet import CONTEXT, EmojiUNet

NULL = len(LABELS)
"""The row of the table that means: no condition."""
TOKENS = 4


class Denoiser(nn.Module):
    """x_t and a class -> v. The table takes the place that a text encoder has in Stable Diffusion."""

    def __init__(self):
        super().__init__()
        self.unet = EmojiUNet()
        self.table = nn.Embedding(len(LABELS) + 1, TOKENS * CONTEXT)

    def context(self, y: Tensor) -> Tensor:
        """The context tokens [B, TOKENS, CONTEXT] of classes y, long [B]; NULL for none."""
        return self.table(y).unflatten(1, (TOKENS, CONTEXT))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """v like x. x [B, 4, 16, 16] in the VP frame; t [B] in 0..999, may be fractional; y long [B]."""
        return self.unet(x, t, self.context(y))
