"""What a CFG method is: stages that see a prediction, each in its phase, and replace it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, IntEnum
from typing import ClassVar

from torch import Tensor

from ..frozen import frozen
from ..params import Checked
from ..run import Run
from .order import MIDDLE


class Phase(IntEnum):
    """When a stage acts. Between SCALE and RESULT the pipeline forms guided = uncond + scale * (cond - uncond)."""

    PREDICTIONS = 0  # adjusts cond or uncond
    DIFFERENCE = 1  # adjusts cond - uncond, by moving uncond
    SCALE = 2  # adjusts the scale
    RESULT = 3  # adjusts guided


class Decision(str, Enum):
    """What only one method of a pipeline can decide."""

    DIRECTION = "what guidance leads away from"
    MOMENTUM = "the momentum of the difference"
    SCALE = "the effective scale"
    SIZE = "the size of the result"

    __str__ = str.__str__


@frozen
class Prediction:
    """What stages see and replace: denoised predictions [B, C, ...] at one call of the model, float32 at least."""

    x: Tensor
    sigma: Tensor  # [B]
    cond: Tensor
    uncond: Tensor
    scale: float | Tensor  # one number, or what broadcasts against x
    strength: float = 1.0  # of the schedule at this noise level
    step: float = 0.0  # of the run, where it is known: from which on the levels of this call are to be looked for
    guided: Tensor | None = None  # set from the RESULT phase on
    settled: Tensor | None = None  # [B], samples that need no guidance from the next call on

    @property
    def difference(self) -> Tensor:
        """cond - uncond."""
        return self.cond - self.uncond

    def with_difference(self, difference: Tensor) -> "Prediction":
        """The same conditional prediction, guided along another difference: uncond = cond - difference."""
        return replace(self, uncond=self.cond - difference)


@frozen
class ScaleEvent:
    """The scale of one combination, after the methods that adjust it."""

    sigma: Tensor  # [B]
    scale: float | Tensor


Stage = Callable[[Prediction], Prediction]


class Method(Checked, ABC):
    """One published way to combine cond and uncond: a frozen dataclass of its parameters, found by discovery.

    doc: what it does to the picture, in plain words. source: paper. rank: its place among the stages of one phase, low
    first (by name where equal; see order.py). decides: what it alone decides; two methods that decide the same are not
    combined. reads_level: whether its result depends on the noise level. plain: whether it has no stage of its own, so
    that there may be any number of it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    doc: ClassVar[str]
    source: ClassVar[str]
    rank: ClassVar[int] = MIDDLE
    decides: ClassVar[frozenset[Decision]] = frozenset()
    reads_level: ClassVar[bool] = True
    plain: ClassVar[bool] = False

    def uncond_at_zero(self, strength: float) -> bool:
        """Whether at scale 0, where the schedule has this strength, the result is uncond: cond then need not run."""
        return False

    @property
    def replaces_uncond(self) -> bool:
        """Whether the method brings a prediction of its own in the place of uncond, whose pass then need not run."""
        return False

    @property
    def own_passes(self) -> int:
        """Passes that the method runs itself where guidance acts, beside those for cond and uncond."""
        return 0

    @abstractmethod
    def start(self, run: Run) -> dict[Phase, Stage]:
        """Open a run: the stages this method adds, by phase. State lives in the stages' closures.

        Called anew where the calls of the run do not go on from one another (see Continuity): state is then forgotten.
        """
