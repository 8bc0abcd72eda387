"""Where one side spends more time than the other, in a few lines."""

import cProfile
import pstats
from pathlib import Path

from .measure import Side

LINES = 8


def compared(ours: Side, theirs: Side) -> str:
    """A table of the functions whose own time differs most between one run of each side."""
    a, b = own_times(ours), own_times(theirs)
    most = sorted({*a, *b}, key=lambda place: -abs(a.get(place, 0) - b.get(place, 0)))[:LINES]
    lines = ["| function | ours | theirs | more |", "|---|---|---|---|"]
    lines += [_line(f"`{place}`", a.get(place, 0), b.get(place, 0)) for place in most]
    return "\n".join([*lines, _line("all", sum(a.values()), sum(b.values()))])


def own_times(side: Side) -> dict[str, float]:
    """Seconds that one run spends in each function by itself."""
    profile = cProfile.Profile()
    profile.enable()
    side()
    profile.disable()
    times: dict[str, float] = {}
    for (file, line, name), (_, _, own, _, _) in pstats.Stats(profile).stats.items():
        place = name if line == 0 else f"{Path(file).parent.name}/{Path(file).name}:{name}"
        times[place] = times.get(place, 0) + own
    return times


def _line(place: str, ours: float, theirs: float) -> str:
    return f"| {place} | {ours * 1e3:.2f} ms | {theirs * 1e3:.2f} ms | {(ours - theirs) * 1e3:+.2f} ms |"
