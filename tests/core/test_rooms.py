"""Who may import whom in the library: docs/how-it-is-built.md lists the rooms, and arrows go up its table."""

import ast
import pkgutil
import re
from pathlib import Path

import pytest

import guidance_core

PACKAGE = Path(guidance_core.__file__).parent


def order():
    """The rooms of the library in the order in which docs/how-it-is-built.md lists them."""
    page = (PACKAGE.parent / "docs" / "how-it-is-built.md").read_text(encoding="utf-8")
    table = page.partition("## The rooms of the library")[2].partition("\n## ")[0]
    rows = [row.split(" | ")[0] for row in table.splitlines() if row.startswith("| `")]
    return [room for row in rows for room in re.findall(r"`(\w+)`", row)]


def ours(file):
    """The rooms that a module imports from."""
    folder = file.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*folder[: len(folder) + 1 - node.level], *(node.module or "").split(".")]
            yield from [base[0]] if base[0] else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("guidance_core."):
            yield node.module.split(".")[1]


def test_every_room_is_on_the_page_of_the_design():
    rooms = {module.name for module in pkgutil.iter_modules([str(PACKAGE)])}
    assert set(order()) == rooms - {"__main__"}


@pytest.mark.parametrize("room", order())
def test_a_room_imports_from_the_rooms_above_it(room):
    """And from itself; of the rooms in its own row, from those before it."""
    below = order()[order().index(room) + 1 :]
    files = [file for file in [PACKAGE / f"{room}.py", *(PACKAGE / room).rglob("*.py")] if file.is_file()]
    assert {(file.name, other) for file in files for other in ours(file) if other in below} == set()
