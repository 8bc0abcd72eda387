"""What a sweep goes through, written as text: numbers and ranges of them, or names."""

import math
from collections.abc import Sequence

from .errors import GuidanceError, shortened

MOST = 64  # in one sweep
QUOTED = 60  # letters of a wrong entry
EXAMPLE = "1, 2, 4, 7.5 or 1:8:5 (from 1 to 8 in 5 values)"


def sweep_numbers(text: str) -> tuple[float, ...]:
    """Numbers by comma, each one number or first:last:count, evenly spaced with both ends; six digits are kept.

    Raises GuidanceError that names a wrong entry, for none, for one that is there twice, and for more than MOST.
    """
    numbers = [number for entry in _entries(text) for number in _range(entry)]
    if not numbers:
        raise GuidanceError(f"there are no values: write for example {EXAMPLE}.")
    return _checked(numbers, lambda number: f"{number:g}")


def sweep_names(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Names by comma, each one of the known ones. Raises GuidanceError as sweep_numbers does."""
    names = _entries(text)
    if not names:
        raise GuidanceError(f"there are no names: write some of {', '.join(known)}.")
    for name in names:
        if name not in known:
            raise GuidanceError(f"there is no '{shortened(name, QUOTED)}': choose from {', '.join(known)}.")
    return _checked(names, str)


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.replace("\n", ",").split(",") if entry.strip()]


def _range(entry: str) -> list[float]:
    ends, said = entry.split(":"), shortened(entry, QUOTED)
    if len(ends) not in (1, 3):
        raise GuidanceError(f"'{said}' is not a range: write first:last:count, as in {EXAMPLE}.")
    try:
        numbers = [float(end) for end in ends]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise GuidanceError(f"'{said}' is not a number: write for example {EXAMPLE}.")
    if len(ends) == 1:
        return numbers
    first, last, count = numbers
    if count != int(count) or not 2 <= count <= MOST:
        raise GuidanceError(f"'{said}' asks for {count:g} values: a range has 2 to {MOST} of them.")
    between = int(count) - 1
    numbers = [float(f"{first + (last - first) * i / between:.6g}") for i in range(between + 1)]
    if not all(map(math.isfinite, numbers)):
        raise GuidanceError(f"'{said}' goes beyond all numbers: write for example {EXAMPLE}.")
    return numbers


def _checked(values: list, word) -> tuple:
    if len(values) > MOST:
        raise GuidanceError(f"there are {len(values)} values: a sweep has {MOST} at most.")
    for i, value in enumerate(values):
        if value in values[:i]:
            raise GuidanceError(f"{word(value)} is there twice: write each value once.")
    return tuple(values)
