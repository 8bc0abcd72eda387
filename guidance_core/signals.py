"""Ctrl-C, and the request to end, as something that long work asks about between two of its steps."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stopped(breaks_off: bool = True) -> Iterator[list[int]]:
    """Note a Ctrl-C or a request to end in a list, so that a step is finished; the second breaks off.

    Not under torchrun, which passes on the signal that the terminal has sent already, and has its own patience.
    """
    caught: list[int] = []

    def note(number: int, frame: object) -> None:
        if caught and breaks_off:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
