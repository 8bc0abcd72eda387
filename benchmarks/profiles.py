"""Where a side spends its time, in a few lines."""

import cProfile
import pstats
from pathlib import Path

from .measure import Side

LINES = 8


def hottest(side: Side) -> str:
    """A table of the functions in which one run of a side spends most time by itself."""
    profile = cProfile.Profile()
    profile.enable()
    side()
    profile.disable()
    stats = pstats.Stats(profile)
    by_time = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:LINES]
    lines = ["| function | calls | own time | share |", "|---|---|---|---|"]
    for (file, line, name), (_, calls, own, _, _) in by_time:
        place = name if line == 0 else f"{Path(file).parent.name}/{Path(file).name}:{name}"
        lines.append(f"| `{place}` | {calls} | {own * 1e3:.2f} ms | {own / stats.total_tt:.1%} |")
    return "\n".join(lines)
