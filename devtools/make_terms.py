"""Writes the tables of docs/guidance-at-cfg-1.md: `python -m devtools.make_terms`, which measures for an hour.

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
from devtools.measure_terms import SEEDS, Row, Spread, rows
from guidance_core.terms import Term, terms
from guidance_core.terms.judged import JudgedTerm
from guidance_core.variety import Variety, varieties

PAGE = ROOT / "docs" / "guidance-at-cfg-1.md"


def documented() -> list[type[Term] | type[Variety]]:
    """What the page tells of: terms without a classifier, and varieties."""
    return [*(term for term in terms().values() if not issubclass(term, JudgedTerm)), *varieties().values()]


def results(measured: list[Row]) -> str:
    """A table a CFG scale and count of samples, and what is better than off beyond twice the spread of the seeds."""
    parts = []
    for cfg, samples in dict.fromkeys((row.cfg, row.samples) for row in measured):
        own = [row for row in measured if (row.cfg, row.samples) == (cfg, samples)]
        seeds = len({row.seed for row in own})
        counted = f"{samples} samples, {seeds} seed{'s' * (seeds != 1)}"
        lines = [
            f"| CFG {cfg:g}, {counted} | judge accuracy | Frechet distance | nearer than off by | diversity | passes |",
            "|---|---|---|---|---|---|",
        ]
        of = {name: _spreads([row for row in own if row.name == name]) for name in dict.fromkeys(r.name for r in own)}
        nearer_by = {name: _nearer_by(own, name) for name in of}
        for name, (accuracy, frechet, diversity, passes) in of.items():
            cells = f"{accuracy.mean:.1%} ± {accuracy.std:.1%} | {frechet.mean:.2f} ± {frechet.std:.2f}"
            cells += f" | {nearer_by[name].mean:.2f} ± {nearer_by[name].std:.2f}" if name != "off" else " |"
            lines.append(f"| {name} | {cells} | {diversity.mean:.2f} ± {diversity.std:.2f} | {passes.mean:.1f} |")
        if min(sum(row.name == name for row in own) for name in of) < len(SEEDS):
            parts.append("\n".join([*lines, "", "Of fewer seeds than three nothing is said here."]))
            continue
        off = of["off"]
        nearer = [name for name, each in of.items() if each[1].beyond(off[1])]
        by_seed = [name for name, each in nearer_by.items() if each.mean > 2 * each.std]
        surer = [name for name, each in of.items() if off[0].beyond(each[0])]
        lines += ["", f"Nearer to real digits than off, beyond twice the spread: {'; '.join(nearer) or 'none'}."]
        lines += [f"Nearer seed by seed, beyond twice the spread of the differences: {'; '.join(by_seed) or 'none'}."]
        lines += [f"Right more often than off, beyond twice the spread: {'; '.join(surer) or 'none'}."]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _nearer_by(own: list[Row], name: str) -> Spread:
    """By how much a setting's distance is below that of off, from the same noise and so seed by seed."""
    off = {row.seed: row.frechet for row in own if row.name == "off"}
    return Spread.of([off[row.seed] - row.frechet for row in own if row.name == name])


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
    asked = parser.parse_args()
    page, measured = with_text(PAGE.read_text(encoding="utf-8")), []
    for row in () if asked.text else rows(asked.rows):
        print(
            f"{row.name:22} CFG {row.cfg:g} seed {row.seed} of {row.samples} {row.accuracy:7.1%} {row.frechet:7.2f}",
            flush=True,
        )
        measured.append(row)
    if measured:
        page = replaced(page, "results", results(measured))
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
