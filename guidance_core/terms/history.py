"""What terms of a run's own history share: their scale over the run, and an average that each step enters once."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from ..frozen import frozen
from ..run import EDGE, Continuity, Cursor, Run, level_of
from ..scale import ScaleSchedule
from .base import Guidance, Term, TermEvent

Direction = Callable[[Tensor, Tensor, Tensor], Tensor | None]  # (denoised, x, sigma [B]), of single precision at least


@frozen
class HistoryTerm(Term):
    """Adds scale * schedule * a direction that the run itself gives; no further pass of the model, at CFG 1 too.

    Where scale * schedule is 0 nothing is added, and what a step predicted is kept for the next ones all the same.
    """

    scale: float
    schedule: ScaleSchedule = ScaleSchedule()

    @abstractmethod
    def direction(self, run: Run) -> Direction:
        """Open a run: what is added to denoised at scale 1, None where there is nothing to go by yet.

        Called anew where the calls of the run do not go on from one another (see Continuity): state is then forgotten.
        """

    def start(self, run: Run) -> Guidance:
        direction, continuity, strength = self.direction(run), Continuity(run), self.schedule.over(run)
        constant = self.schedule == ScaleSchedule()

        def guided(denoised: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
            nonlocal direction
            if not continuity.goes_on(x, sigma.tolist()):
                direction = self.direction(run)
            scale = self.scale if constant else self.scale * strength(level_of(sigma))
            wide = torch.promote_types(denoised.dtype, torch.float32)
            change = direction(denoised.to(wide), x.to(wide), sigma.to(torch.promote_types(sigma.dtype, torch.float32)))
            if change is None or abs(scale) < 1e-6:
                return denoised
            run.record(TermEvent(float(sigma[0]), scale))
            return denoised + (scale * change).to(denoised.dtype)

        return guided


class EarlierSteps:
    """An average over the steps of a run before the current one, which each step enters once.

    A sampler may call several times in a step. What enters is the call at the step's own level, the last one there:
    Heun's method calls a level first by way of trial. Of a run whose sigmas are unknown each level is a step.
    take: (average so far, None at first; what a step gave) -> average.
    """

    def __init__(self, run: Run, take: Callable[[Tensor | None, Tensor], Tensor]):
        self._take, self._cursor = take, Cursor(run) if run.sigmas is not None else None
        self._average: Tensor | None = None
        self._held: tuple[float, float, Tensor] | None = None  # of the current step: its number, the level, the value

    def __call__(self, value: Tensor, level: float) -> Tensor | None:
        """The average before the step of a call at this level, None at the first; value is kept for the steps after."""
        step = level if self._cursor is None else float(int(self._cursor.step(level) + EDGE))
        if self._held is not None and step != self._held[0]:
            self._average = self._take(self._average, self._held[2])
            self._held = None
        if self._held is None or abs(level - self._held[1]) <= EDGE * level:
            self._held = (step, level, value)
        return self._average
