"""RESULTS.md: one section a group of figures, replaced by itself whenever its group is measured again."""

import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from guidance_core.drawing.plot import write_png
from guidance_core.writing import write_whole

from . import GROUPS
from .measure import Row

FILE = Path(__file__).with_name("RESULTS.md")
COLUMNS = ("figure", "median (quartiles)", "target", "verdict", "made of")
HEAD = """# Benchmark results

`python dev.py bench` measures these on your machine and rewrites this page (`--only passes` one section of it). Both
sides of a comparison run in one process, turn by turn, unless its section says otherwise; a ratio is ours over theirs,
the median over the rounds with its quartiles. *Within noise*: the target lies between the quartiles, so that another
run may fall on its other side.
"""


@dataclass(frozen=True)
class Picture:
    """A picture beside the page. pixels: uint8 [H, W, 3]."""

    title: str
    pixels: np.ndarray

    def kept(self, file: Path) -> str:
        """Written to a file, the paragraph that shows it."""
        write_png(self.pixels, file)
        return f"![{self.title}]({file.name})"


def section(group: str, module: ModuleType, machine: str, entries: list[Row | str], whole: bool) -> str:
    """A group's part of the page: its rows in a table, then its paragraphs. whole: whether it ran to its end."""
    lines = [f"## {module.TITLE} ({group})", "", module.INTRO, "", machine, ""]
    if rows := [_line(entry.cells) for entry in entries if isinstance(entry, Row)]:
        lines += [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *rows]
    for entry in entries:
        if isinstance(entry, str):
            lines += ["", entry]
    if not whole:
        lines += ["", "*Broken off: the figures that were to follow are missing.*"]
    return "\n".join(lines) + "\n"


def with_section(page: str, group: str, text: str) -> str:
    """The page with this section in place of the group's old one; sections are in the order of GROUPS."""
    sections = {}
    for part in re.split(r"(?m)^(?=## )", page)[1:]:
        name = re.match(r"## .*\((\w+)\)\n", part)
        if name:
            sections[name[1]] = part.strip() + "\n"
    sections[group] = text
    return "\n".join([HEAD, *(sections[name] for name in GROUPS if name in sections)])


def keep(group: str, text: str, file: Path = FILE) -> None:
    """Write a group's section into the page, whole or not at all."""
    page = file.read_text(encoding="utf-8") if file.exists() else ""
    write_whole(file, with_section(page, group, text).encode())


def _line(cells) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
