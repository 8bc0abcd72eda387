"""Interleaved timing of several sides, medians with quartiles, and the verdict on a figure."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Side = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """The median of several values between their quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Quartiles of one value or more, linear between them."""
        quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
        return cls(*quartiles)


def interleaved(
    *sides: Side, rounds: int, warm_up: bool = True, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Seconds of every side in every round, [side][round], after one round that is not counted.

    The sides of a round run one after the other, in every other round backwards: a machine that becomes slower or
    faster meanwhile does so for all of them.
    """
    times: list[list[float]] = [[] for _ in sides]
    for side in sides if warm_up else ():
        side()
    for i in range(rounds):
        order = range(len(sides)) if i % 2 == 0 else reversed(range(len(sides)))
        for index in order:
            gc.collect()
            begin = clock()
            sides[index]()
            times[index].append(clock() - begin)
    return times


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times as long one side took as the other, round by round."""
    return Spread.of([a / b for a, b in zip(ours, theirs, strict=True)])


@dataclass(frozen=True)
class Target:
    """The range that a figure is to be in."""

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        return f"at most {self.high:g}" if self.low == -math.inf else f"{self.low:g} to {self.high:g}"

    def holds(self, value: float) -> bool:
        """Whether a value is in the range, ends included."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Row:
    """One figure, with its target where it has one.

    detail: what the figure was made of. suspect: our side and theirs, to profile where it is short.
    """

    name: str
    value: Spread
    unit: str = ""
    target: Target | None = None
    detail: str = ""
    suspect: tuple[Side, Side] | None = field(default=None, repr=False, compare=False)

    @property
    def short(self) -> bool:
        """Whether the median misses the target."""
        return self.target is not None and not self.target.holds(self.value.median)

    @property
    def verdict(self) -> str:
        """met or short, and whether the quartiles leave that open; nothing without a target."""
        if self.target is None:
            return ""
        inside = self.target.holds(self.value.low) and self.target.holds(self.value.high)
        outside = self.value.low > self.target.high or self.value.high < self.target.low
        return ("short" if self.short else "met") + ("" if inside or outside else ", within noise")

    @property
    def cells(self) -> list[str]:
        """Figure, value with quartiles, target, verdict, detail: as a table shows them."""
        value, unit = self.value, f" {self.unit}" if self.unit else ""
        figure = f"{value.median:.4g}{unit}"
        if value.low != value.high:
            figure += f" ({value.low:.4g} to {value.high:.4g})"
        return [self.name, figure, str(self.target) if self.target else "", self.verdict, self.detail]
