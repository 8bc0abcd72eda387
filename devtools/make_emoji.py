"""Writes the emoji demo's tables into README and docs: `python -m devtools.make_emoji FILE...`.

A FILE is what `python -m guidance_core.demo.emoji.evaluate --table NAME --rows FILE` has written, of any tables.
"""

import argparse
import json
import sys
from pathlib import Path

from devtools.host import ROOT
from devtools.make_readme import replaced
from guidance_core.demo.emoji.evaluate import Row, spread
from guidance_core.writing import write_whole

PAGES = (ROOT / "README.md", ROOT / "docs" / "emoji-demo.md", ROOT / "docs" / "cfg-methods.md")


def table(rows: list[Row]) -> str:
    """The rows as a table, by guidance in the order in which they were measured and by scale."""
    guidances = [row.guidance for row in rows]
    lines = ["| guidance | scale | samples | judge accuracy | Frechet distance | colour |", "|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: (guidances.index(row.guidance), row.scale)):
        accuracy = f"{spread([100 * value for value in row.accuracy], 1)} %"
        drawn = f"{len(row.accuracy)} x {row.samples}" if len(row.accuracy) > 1 else f"{row.samples}"
        numbers = f"{accuracy} | {spread(row.frechet, 2)} | {spread(row.colour, 2)}"
        lines.append(f"| {row.guidance} | {'' if row.table == 'floor' else f'{row.scale:g}'} | {drawn} | {numbers} |")
    return "\n".join(lines)


def main() -> int:
    """Write every table of which there are rows into the pages that show it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="measured rows")
    asked = parser.parse_args()
    lines = [line for file in asked.files for line in file.read_text(encoding="utf-8").splitlines()]
    rows = [Row(**json.loads(line)) for line in lines]
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in dict.fromkeys(row.table for row in rows):
            text = replaced(text, f"emoji {name}", table([row for row in rows if row.table == name]))
        write_whole(page, text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
