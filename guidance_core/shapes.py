"""The shapes of a scale schedule: functions from progress u in [0, 1] to a value, 0 to 1 unless given by points."""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from functools import cached_property
from typing import ClassVar

from .errors import GuidanceError, shortened
from .frozen import frozen
from .params import Checked, choice, number, text


class Shape(Checked, ABC):
    """A curve over the window of a schedule. doc says in plain words what it does."""

    name: ClassVar[str]
    doc: ClassVar[str]

    @abstractmethod
    def value(self, u: float) -> float:
        """The curve at progress u in [0, 1]."""

    def strength(self, u: float, low: float, high: float) -> float:
        """The curve between `low` (value 0) and `high` (value 1)."""
        return low + (high - low) * self.value(u)


class Flat(Shape):
    """A shape without a slope: always `high`."""

    def value(self, u):
        return 1.0


@frozen
class Constant(Flat):
    name = "constant"
    doc = "The same strength for the whole run."


@frozen
class Interval(Flat):
    name = "interval"
    doc = "Full strength between start and end, off outside: saves passes there (arXiv:2404.07724)."


@frozen
class Linear(Shape):
    name = "linear"
    doc = "Rises evenly (arXiv:2404.13040)."

    def value(self, u):
        return u


@frozen
class Cosine(Shape):
    name = "cosine"
    doc = "Rises in an S: gentle at both ends (arXiv:2404.13040)."

    def value(self, u):
        return (1 - math.cos(math.pi * u)) / 2


@frozen
class HalfCosine(Shape):
    name = "half_cosine"
    doc = "Starts slowly and rises ever faster."

    def value(self, u):
        return 1 - math.cos(math.pi * u / 2)


@frozen
class Sine(Shape):
    name = "sine"
    doc = "Rises at once and levels off."

    def value(self, u):
        return math.sin(math.pi * u / 2)


@frozen
class Power(Shape):
    name = "power"
    doc = "Progress to a power: above 1 late, below 1 early."
    exponent: float = number(2.0, 0.05, 10.0, 0.05, "Above 1 the rise comes late, below 1 early; 1 is linear.")

    def value(self, u):
        return u**self.exponent


@frozen
class Exponential(Shape):
    name = "exponential"
    doc = "Rises exponentially: most of it near the end."
    rate: float = number(3.0, 0.05, 20.0, 0.05, "How sharply it bends; near 0 it is linear.")

    def value(self, u):
        return math.expm1(self.rate * u) / math.expm1(self.rate)


@frozen
class Triangle(Shape):
    name = "triangle"
    doc = "Rises to a peak, then falls back."
    peak: float = number(0.5, 0.0, 1.0, 0.01, "Where in the window the peak lies.")

    def value(self, u):
        if u <= self.peak:
            return u / self.peak if self.peak else 1.0
        return (1 - u) / (1 - self.peak)


class Points(Shape):
    """A shape whose values are strengths themselves, so `low` and `high` do not apply."""

    def strength(self, u, low, high):
        return self.value(u)


@frozen
class Keyframes(Points):
    name = "keyframes"
    doc = "Your own points: position in the window, then strength."
    points: str = text("0: 0, 0.5: 1, 1: 0.5", "position: strength pairs, e.g. 0: 0, 0.5: 1, 1: 0.5.")
    interpolation: str = choice(
        "monotone_cubic", ("monotone_cubic", "linear"), "Smooth without overshoot, or straight lines."
    )

    def __post_init__(self):
        super().__post_init__()
        parse_keyframes(self.points)

    @cached_property
    def _curve(self) -> tuple[list[float], list[float], list[float] | None]:
        xs, ys = parse_keyframes(self.points)
        return xs, ys, monotone_slopes(xs, ys) if self.interpolation == "monotone_cubic" else None

    def value(self, u):
        xs, ys, slopes = self._curve
        if u <= xs[0]:
            return ys[0]
        if u >= xs[-1]:
            return ys[-1]
        i = bisect_right(xs, u) - 1
        h = xs[i + 1] - xs[i]
        t = (u - xs[i]) / h
        if slopes is None:
            return ys[i] + (ys[i + 1] - ys[i]) * t
        return (
            (1 + 2 * t) * (1 - t) ** 2 * ys[i]
            + t * (1 - t) ** 2 * h * slopes[i]
            + t**2 * (3 - 2 * t) * ys[i + 1]
            + t**2 * (t - 1) * h * slopes[i + 1]
        )


@frozen
class Values(Points):
    name = "values"
    doc = "A list of strengths, spread evenly over the window: one a step when the list is as long as the run."
    values: str = text("1, 1, 0.5, 0.5, 0", "Strengths from the noisiest step to the cleanest, e.g. 0, 0.5, 1, 1.")

    def __post_init__(self):
        super().__post_init__()
        if not self._strengths:
            raise GuidanceError("values needs at least one strength, e.g. 0, 0.5, 1, 1; got an empty text.")

    @cached_property
    def _strengths(self) -> list[float]:
        entries = [entry for entry in self.values.replace("\n", ",").split(",") if entry.strip()]
        return [_number(entry, "values", "0, 0.5, 1, 1") for entry in entries]

    def value(self, u):
        strengths = self._strengths
        place = u * (len(strengths) - 1)
        i = min(int(place + 1e-9), max(len(strengths) - 2, 0))
        t = place - i
        return strengths[i] if len(strengths) == 1 else strengths[i] + (strengths[i + 1] - strengths[i]) * t


def _number(entry: str, name: str, example: str) -> float:
    try:
        value = float(entry)
    except ValueError:
        value = math.nan
    if not abs(value) <= 100:
        raise GuidanceError(
            f"{name}: '{shortened(entry.strip())}' is not a number between -100 and 100; write for example {example}."
        )
    return value


def parse_keyframes(points: str) -> tuple[list[float], list[float]]:
    """'0: 0, 0.5: 1' as positions (rising, in [0, 1]) and strengths. Raises GuidanceError that names a wrong entry."""
    example = "0: 0, 0.5: 1, 1: 0.5"
    pairs = []
    for entry in points.replace("\n", ",").split(","):
        if not entry.strip():
            continue
        position, colon, strength = entry.partition(":")
        if not colon:
            raise GuidanceError(
                f"points: '{shortened(entry.strip())}' has no colon; write position: strength, e.g. {example}."
            )
        pairs.append((_number(position, "points", example), _number(strength, "points", example)))
    if not pairs:
        raise GuidanceError(f"points needs at least one position: strength pair, e.g. {example}; got none.")
    pairs.sort()
    xs = [x for x, _ in pairs]
    if xs[0] < 0 or xs[-1] > 1:
        raise GuidanceError(f"points: positions must be in [0, 1], got {xs[0] if xs[0] < 0 else xs[-1]:g}.")
    for a, b in zip(xs, xs[1:], strict=False):
        if a == b:
            raise GuidanceError(f"points: position {a:g} is given twice; keep one strength for it.")
    return xs, [y for _, y in pairs]


def monotone_slopes(xs: list[float], ys: list[float]) -> list[float]:
    """Slopes of the monotone cubic through the points (Fritsch & Butland 1984): no overshoot between them."""
    n = len(xs)
    if n == 1:
        return [0.0]
    h = [b - a for a, b in zip(xs, xs[1:], strict=False)]
    d = [(y1 - y0) / w for y0, y1, w in zip(ys, ys[1:], h, strict=False)]
    if n == 2:
        return [d[0], d[0]]

    def inner(i: int) -> float:
        if d[i - 1] * d[i] <= 0:
            return 0.0
        w1, w2 = 2 * h[i] + h[i - 1], h[i] + 2 * h[i - 1]
        return (w1 + w2) / (w1 / d[i - 1] + w2 / d[i])

    def end(h0: float, h1: float, d0: float, d1: float) -> float:
        slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
        if slope * d0 <= 0:
            return 0.0
        return 3 * d0 if d0 * d1 <= 0 and abs(slope) > 3 * abs(d0) else slope

    return [end(h[0], h[1], d[0], d[1]), *map(inner, range(1, n - 1)), end(h[-1], h[-2], d[-1], d[-2])]


SHAPES: dict[str, type[Shape]] = {
    shape.name: shape
    for shape in (
        Constant,
        Linear,
        Cosine,
        HalfCosine,
        Sine,
        Power,
        Exponential,
        Interval,
        Triangle,
        Keyframes,
        Values,
    )
}
