"""A term: what is added to a guided prediction, one kind a file, found by discovery."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from ..frozen import frozen
from ..params import Checked
from ..run import Run, level_of
from ..scale import ScaleSchedule

Guidance = Callable[[Tensor, Tensor, Tensor], Tensor]  # (denoised, x, sigma [B]) -> guided denoised


@frozen
class TermEvent:
    """One addition of a term: the noise level, and its scale there."""

    sigma: float
    scale: float


class Term(Checked, ABC):
    """One way to add to a denoised prediction: a frozen dataclass of its parameters, scale and schedule among them.

    doc: what it does to the picture, in plain words. source: paper. before_result: whether it is added before CFG's
    methods adjust the result (rescale and its kin), which then tame it as well, and not after all of CFG. own_passes:
    how many passes of a model it runs where it acts.

    A term that predicts for itself asks the run: `run.conditional` is the model's prediction under the condition,
    `run.denoiser_of` makes a denoiser of what is connected.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    doc: ClassVar[str]
    source: ClassVar[str]
    before_result: ClassVar[bool] = False
    own_passes: ClassVar[int] = 0
    scale: float  # 0 is off
    schedule: ScaleSchedule

    def scale_over(self, run: Run) -> Callable[[Tensor], float]:
        """scale * schedule over a run, by noise levels sigma [B]; exactly 0 where it is within 1e-6 of it.

        A term without a schedule does not read sigma, as that waits for its device.
        """
        if self.schedule == ScaleSchedule():
            return lambda sigma: _or_zero(self.scale)
        strength = self.schedule.over(run)
        return lambda sigma: _or_zero(self.scale * strength(level_of(sigma)))

    @abstractmethod
    def start(self, run: Run) -> Guidance:
        """Open a run: (denoised [B, C, ...], x like it, sigma [B]) -> denoised with the term added.

        Where it adds nothing it gives denoised itself. Each addition is told to run.record as a TermEvent.
        """


def _or_zero(scale: float) -> float:
    return 0.0 if abs(scale) < 1e-6 else scale
