"""One kind of progress: a long piece of work yields `Progress` as it goes, and returns its result.

def squares(numbers: list[int]) -> Work[list[int]]:
    found = []
    for done, number in enumerate(numbers, 1):
        found.append(number**2)
        yield Progress(done, len(numbers))
    return found

run_to_end(squares([1, 2, 3]), print)              # [1, 4, 9]; `yield from` gives it too
"""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

from .frozen import frozen

Result = TypeVar("Result")


@frozen
class Progress:
    """`done` of `count` parts are done; count is None where nobody knows how many there will be."""

    done: int
    count: int | None


Work = Generator[Progress, None, Result]
Part = TypeVar("Part", bound=Progress)


def run_to_end(work: Generator[Part, None, Result], show: Callable[[Part], None] | None = None) -> Result:
    """The result of work; `show` is called after every part, and what it raises ends the work there."""
    with closing(work):
        while True:
            try:
                progress = next(work)
            except StopIteration as end:
                return end.value
            if show is not None:
                show(progress)
