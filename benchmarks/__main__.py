"""Measures one group in this process: `python -m benchmarks GROUP [--quick]`."""

import argparse
import importlib
import sys
from pathlib import Path

from . import GROUPS, host
from .measure import Row
from .profiles import compared
from .results import FILE, Picture, keep, section

QUICK = Path(__file__).parent.parent / "output" / "bench" / FILE.name


def main() -> int:
    """Print each row and keep it, as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    file = QUICK if asked.quick else FILE
    host.enter()
    from .machine import machine

    group = importlib.import_module(f".{asked.group}", __package__)
    about, entries = machine(asked.quick), []
    print(f"\n{group.TITLE} ({asked.group})\n{about}", flush=True)

    def note(entry: Row | str) -> None:
        entries.append(entry)
        print(entry if isinstance(entry, str) else " | ".join(entry.cells), flush=True)
        keep(asked.group, section(asked.group, group, about, entries, whole=False), file)

    for entry in group.entries(asked.quick):
        note(entry.kept(file.with_name(f"{asked.group}.png")) if isinstance(entry, Picture) else entry)
        if isinstance(entry, Row) and entry.short and entry.suspect:
            note(f"*{entry.name}* is short of its target. A run of each side, profiled:\n\n{compared(*entry.suspect)}")
    keep(asked.group, section(asked.group, group, about, entries, whole=True), file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
