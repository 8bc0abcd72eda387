"""Writes the tables of docs/guidance-at-cfg-1.md: `python -m devtools.make_terms`, which measures for half an hour.

`--text` rewrites only what follows from the dataclasses, which takes no time. `--rows FILE` keeps each row in a file as
soon as it is measured, and takes those that are there already: a run that was cut short goes on.
"""

import argparse
import inspect
import sys
from pathlib import Path

from devtools.host import ROOT
from devtools.make_methods import parameter_rows
from devtools.make_readme import replaced
from devtools.measure_terms import SAMPLES, SEEDS, Row, Spread, rows
from guidance_core.terms import Term, terms
from guidance_core.terms.judged import JudgedTerm
from guidance_core.variety import Variety, varieties

PAGE = ROOT / "docs" / "guidance-at-cfg-1.md"


def documented() -> list[type[Term] | type[Variety]]:
    """What the page tells of: terms without a classifier, and varieties."""
    return [*(term for term in terms().values() if not issubclass(term, JudgedTerm)), *varieties().values()]


def results(measured: list[Row]) -> str:
    """A table a CFG scale, and what is better than nothing beyond twice the spread of the seeds."""
    parts = []
    for cfg in sorted({row.cfg for row in measured}):
        own = [row for row in measured if row.cfg == cfg]
        seeds = len({row.seed for row in own})
        counted = f"{seeds} seed{'s' * (seeds != 1)}"
        lines = [
            f"| CFG {cfg:g}, {counted} | judge accuracy | Frechet distance | diversity | passes |",
            "|---|---|---|---|---|",
        ]
        of = {name: _spreads([row for row in own if row.name == name]) for name in dict.fromkeys(r.name for r in own)}
        for name, (accuracy, frechet, diversity, passes) in of.items():
            cells = f"{accuracy.mean:.1%} ± {accuracy.std:.1%} | {frechet.mean:.2f} ± {frechet.std:.2f}"
            lines.append(f"| {name} | {cells} | {diversity.mean:.2f} ± {diversity.std:.2f} | {passes.mean:.1f} |")
        if min(sum(row.name == name for row in own) for name in of) < len(SEEDS):
            parts.append("\n".join([*lines, "", "Of fewer seeds than three nothing is said here."]))
            continue
        off = of["off"]
        nearer = [name for name, each in of.items() if each[1].beyond(off[1])]
        surer = [name for name, each in of.items() if off[0].beyond(each[0])]
        lines += ["", f"Nearer to real digits than off, beyond twice the spread: {', '.join(nearer) or 'none'}."]
        lines += [f"Right more often than off, beyond twice the spread: {', '.join(surer) or 'none'}."]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _spreads(measured: list[Row]) -> list[Spread]:
    names = ("accuracy", "frechet", "diversity", "passes")
    return [Spread.of([getattr(row, name) for row in measured]) for name in names]


def sections() -> str:
    """One section a term or variety."""
    return "\n\n".join(_section(kind) for kind in documented())


def _section(kind: type[Term] | type[Variety]) -> str:
    summary = inspect.getdoc(inspect.getmodule(kind)).partition("\n\n")[0]
    table = ["| parameter | default | range | |", "|---|---|---|---|", *parameter_rows(kind)]
    facts = [f"### `{kind.name}`: {kind.title}", f"{summary} {kind.doc}", f"Source: {kind.source}."]
    return "\n\n".join([*facts, "\n".join(table)])


def with_text(page: str) -> str:
    """The page with all that follows from the dataclasses written anew."""
    return replaced(page, "terms", sections())


def main() -> int:
    """Write the page in place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", action="store_true", help="only what follows from the dataclasses, nothing measured")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="keep the measured rows here, and go on from them")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of each row; a multiple of 100")
    asked = parser.parse_args()
    page, measured = with_text(PAGE.read_text(encoding="utf-8")), []
    for row in () if asked.text else rows(asked.samples, asked.rows):
        print(f"{row.name:22} CFG {row.cfg:g} seed {row.seed} {row.accuracy:7.1%} {row.frechet:7.2f}", flush=True)
        measured.append(row)
    if measured:
        page = replaced(page, "results", results(measured))
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
