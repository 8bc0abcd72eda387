"""Writes the table of docs/clean-classifiers.md: `python -m devtools.make_clean`, which measures for half an hour.

`--rows FILE` keeps each row in a file as soon as it is measured, and takes those that are there already: a run that was
cut short goes on.
"""

import argparse
import sys
from pathlib import Path

from devtools.host import ROOT
from devtools.make_readme import replaced
from devtools.measure_clean import FEWER, SAMPLES, Row, rows
from guidance_core.writing import write_whole

PAGE = ROOT / "docs" / "clean-classifiers.md"


def table(measured: list[Row]) -> str:
    """The rows as a table."""
    lines = ["| recipe | demo's judge | second judge | Frechet distance | diversity | the guide's own belief |"]
    lines.append("|---|---|---|---|---|---|")
    for row in measured:
        numbers = f"{row.judge:.1%} | {row.svm:.1%} | {row.frechet:.2f} | {row.diversity:.2f} | {row.belief:.0%}"
        lines.append(f"| {row.name} | {numbers} |")
    return "\n".join(lines)


def main() -> int:
    """Write the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, metavar="FILE", help="keep the measured rows here, and go on from them")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of the shown row; a multiple of 200")
    parser.add_argument("--fewer", type=int, default=FEWER, help="of every other row; a multiple of 200")
    asked = parser.parse_args()
    measured = []
    for row in rows(asked.samples, asked.fewer, asked.rows):
        print(f"{row.name:60} {row.judge:7.1%} {row.svm:7.1%} {row.frechet:7.2f}", flush=True)
        measured.append(row)
    write_whole(PAGE, replaced(PAGE.read_text(encoding="utf-8"), "results", table(measured)).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
