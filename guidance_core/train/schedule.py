"""Learning a schedule: keyframes that a judge of finished samples likes best, found by trying one after the other."""

from collections.abc import Callable, Generator

from ..errors import GuidanceError
from ..frozen import frozen
from ..progress import Progress
from ..scale import ScaleSchedule
from ..shapes import Keyframes

MOST = 2.0  # strength; the least is 0
FIRST_STEP, LEAST_STEP = 0.5, 0.125  # of a strength


@frozen
class Trial(Progress):
    """`done` of at most `count` schedules have been tried. best: the one with the lowest score so far."""

    best: ScaleSchedule
    score: float


def keyframes(strengths: tuple[float, ...]) -> ScaleSchedule:
    """A schedule through these strengths, spread evenly over the steps."""
    places = (i / (len(strengths) - 1) for i in range(len(strengths)))
    return ScaleSchedule(
        Keyframes(", ".join(f"{place:.4g}: {s:g}" for place, s in zip(places, strengths, strict=True)))
    )


def learn_schedule(
    score: Callable[[ScaleSchedule], float], points: int = 4, rounds: int = 4
) -> Generator[Trial, None, ScaleSchedule]:
    """Fit `points` strengths in [0, MOST] to a score, lower being better; they begin at 1, the constant schedule.

    A pattern search: in each round every strength is moved up, and where that is no better down; when a round brings
    nothing the move is halved. score: samples under a schedule and judges them, from the same noise each time.
    Yields each trial and returns the best schedule. Raises GuidanceError for fewer than two points.
    """
    if points < 2 or rounds < 1:
        raise GuidanceError(f"A schedule is learned with 2 points and 1 round at least, got {points} and {rounds}.")
    strengths, step, count = (1.0,) * points, FIRST_STEP, 1 + 2 * points * rounds
    tried = {strengths: score(keyframes(strengths))}
    yield Trial(1, count, keyframes(strengths), tried[strengths])
    for _ in range(rounds):
        before = strengths
        for i in range(points):
            for move in (step, -step):
                moved = strengths[:i] + (min(max(strengths[i] + move, 0.0), MOST),) + strengths[i + 1 :]
                if moved not in tried:
                    tried[moved] = score(keyframes(moved))
                better = tried[moved] < tried[strengths]
                strengths = moved if better else strengths
                yield Trial(len(tried), count, keyframes(strengths), tried[strengths])
                if better:
                    break
        if strengths == before:
            step /= 2
        if step < LEAST_STEP:
            break
    return keyframes(strengths)
