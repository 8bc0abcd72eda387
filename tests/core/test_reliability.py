"""docs/reliability.md: a table of faults, each of whose rows names tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("|") and not re.match(r"\| fault \||\|---", line)]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@cache
def slow_by_test(file: str) -> dict[str, bool]:
    """Each test function of a file, and whether it is marked slow."""
    functions = [
        node for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
    ]
    return {each.name: "pytest.mark.slow" in map(ast.unparse, each.decorator_list) for each in functions}


def test_slow_is_the_mark_and_not_the_word(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "@pytest.mark.parametrize('pace', ['slow'])\ndef test_a(pace): ...\n\n"
        "@pytest.mark.slow\n@other\ndef test_b(): ...\n\ndef test_c(): ..."
    )
    assert slow_by_test(str(tmp_path / "test_it.py")) == {"test_a": False, "test_b": True, "test_c": False}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_named_test_exists(file, name):
    assert name in slow_by_test(file)
    assert name.startswith("test_")


def test_every_row_names_a_fault_what_happens_and_a_test():
    assert len(ROWS) > 40
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 3 and all(cells), row
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", cells[2]), row


def test_slow_tests_are_said_to_be_slow():
    for file, name in NAMED:
        said = f"`{file}::{name}` (slow)" in PAGE
        assert said == slow_by_test(file)[name], name
