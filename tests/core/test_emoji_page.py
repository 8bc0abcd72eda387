"""docs/emoji-demo.md: its tables are made of measured rows, and show what it promises."""

import json
import re
import sys

import pytest

from devtools import make_emoji
from guidance_core.demo.emoji.evaluate import Row

PAGE = make_emoji.ROOT / "docs" / "emoji-demo.md"


def shown(name):
    """{(guidance, scale): (accuracy, distance)} of a table on the page."""
    block = PAGE.read_text(encoding="utf-8").partition(f"<!-- emoji {name} -->")[2].partition("<!-- /emoji")[0]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in block.strip().splitlines()[2:]]
    return {(row[0], row[1]): tuple(float(re.match(r"[\d.]+", row[i])[0]) for i in (3, 4)) for row in cells}


def test_a_table_is_sorted_and_tells_spreads_and_samples():
    rows = [
        Row("cfg", "CFG", 3.0, 110, [0.95, 0.97, 0.99], [10.0, 10.5, 10.2], [0.9, 0.9, 0.9]),
        Row("cfg", "CFG", 1.0, 330, [0.8], [12.345], [0.834]),
    ]
    assert make_emoji.table(rows).splitlines()[2:] == [
        "| CFG | 1 | 330 | 80.0 % | 12.35 | 0.83 |",
        "| CFG | 3 | 3 x 110 | 97.0 ± 2.0 % | 10.23 ± 0.25 | 0.90 ± 0.00 |",
    ]


def test_every_page_gets_the_tables_that_it_marks(tmp_path, monkeypatch):
    pages, kept = [tmp_path / "one.md", tmp_path / "two.md"], tmp_path / "rows.jsonl"
    pages[0].write_text("<!-- emoji cfg -->\nold\n<!-- /emoji cfg -->\n", encoding="utf-8")
    pages[1].write_text("nothing\n", encoding="utf-8")
    row = {"table": "cfg", "guidance": "CFG", "scale": 2, "samples": 11} | dict.fromkeys(
        ("accuracy", "frechet", "colour"), [0.5]
    )
    kept.write_text(json.dumps(row) + "\n", encoding="utf-8")
    monkeypatch.setattr(make_emoji, "PAGES", pages)
    monkeypatch.setattr(sys, "argv", ["make_emoji", str(kept)])
    assert make_emoji.main() == 0
    assert "| CFG | 2 | 11 | 50.0 % | 0.50 | 0.50 |" in pages[0].read_text(encoding="utf-8")
    assert "old" not in pages[0].read_text(encoding="utf-8") and pages[1].read_text(encoding="utf-8") == "nothing\n"


def test_cfg_helps_on_the_emoji():
    accuracy = {float(scale): found for (_, scale), (found, _) in shown("cfg").items()}
    assert max(accuracy.values()) >= 95 and max(accuracy.values()) >= accuracy[1.0] + 10


@pytest.mark.parametrize("name", ["floor", "cfg"])
def test_tables_are_filled(name):
    assert len(shown(name)) >= 2
