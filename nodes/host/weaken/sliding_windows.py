"""Sliding windows: the model sees only a window of the picture at a time, and what it predicts is put together."""

from torch import Tensor

from ....guidance_core.errors import GuidanceError
from ....guidance_core.frozen import frozen
from ....guidance_core.params import number
from ....guidance_core.sliding_windows import Window, put_together, windows
from ..architectures import instead_of_a_pass
from .base import Weakening


@frozen
class SlidingWindows(Weakening):
    name = "sliding_windows"
    title = "Sliding windows (SWG)"
    doc = "Shows the model one window of the picture at a time: what is led away from has lost its large shapes."
    source = "SWG, Adaloglou et al. 2024, arXiv:2411.10257; four windows of 40 of 64 rows and columns"
    rank = 7
    size: float = number(
        0.625, 0.25, 0.95, 0.005, "Height and width of a window, as a share of the picture's: smaller is weaker."
    )

    def weakened(self, options, kind, network):
        def around(executor, x, t, c_concat, c_crossattn, control, inside, **kwargs):
            if x.ndim < 4 or "latent_shapes" in kwargs:
                raise GuidanceError(
                    f"'{self.name}' cuts pictures, not a latent of picture and sound: choose another way."
                )
            if control is not None:
                raise GuidanceError(
                    f"'{self.name}' cannot cut what a ControlNet gives: take the ControlNet out, or choose another way."
                )

            def predicted(window: Window) -> Tensor:
                def cut(given: object) -> object:
                    """What is laid out like the latent, cut with it."""
                    alike = isinstance(given, Tensor) and given.ndim >= 4 and given.shape[-2:] == x.shape[-2:]
                    return given[(..., *window)] if alike else given

                rest = {name: cut(value) for name, value in kwargs.items()}
                return executor(cut(x), t, cut(c_concat), c_crossattn, None, inside, **rest)

            return put_together(predicted, x, windows(x.shape[-2:], self.size))

        return instead_of_a_pass(options, "guidance_kit_windows", around)
