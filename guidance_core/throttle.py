"""Lets what could be done many times a second be done a few times."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Throttle:
    """Lets a thing be done at once, and then again each time `interval` seconds of the clock have passed."""

    interval: float
    clock: Callable[[], float] = time.monotonic
    _next: float = field(default=-math.inf, init=False)

    def due(self) -> bool:
        """Whether it may be done now; if so it counts as done."""
        now = self.clock()
        if now < self._next:
            return False
        self._next = now + self.interval
        return True
