"""How often a thing is let be done, by a clock that the test sets."""

import pytest

from guidance_core.throttle import Throttle


@pytest.mark.parametrize(
    ("times", "done"),
    [
        ([7.0], [7.0]),
        ([-5.0, -5.0, -4.5], [-5.0, -4.5]),
        ([0.0, 0.25, 0.499, 0.5, 0.75, 0.999, 1.0], [0.0, 0.5, 1.0]),
        ([0.0, 9.0, 9.1, 9.4, 9.5], [0.0, 9.0, 9.5]),
        ([0.0, 0.625, 1.0, 1.125], [0.0, 0.625, 1.125]),
    ],
    ids=["at once", "not twice at one time", "each interval", "a pause counts once", "since it was done"],
)
def test_a_thing_is_done_at_once_and_then_once_an_interval(times, done):
    clock = iter(times)
    throttle = Throttle(0.5, lambda: next(clock))
    assert [time for time in times if throttle.due()] == done


@pytest.mark.parametrize("interval", [0.1, 0.2, 3.0])
def test_no_two_are_nearer_than_the_interval(interval):
    times = [0.07 * i for i in range(200)]
    clock = iter(times)
    throttle = Throttle(interval, lambda: next(clock))
    done = [time for time in times if throttle.due()]
    assert all(interval <= b - a < interval + 0.07 + 1e-9 for a, b in zip(done, done[1:], strict=False))
    assert len(done) >= 4
