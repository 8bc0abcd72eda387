"""The page of what the demo has run: each example's sheet under its title and what is to be seen in it."""

import html
import os
import re
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from guidance_core.writing import write_whole

HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Guidance Kit: the demo</title><style>
body { max-width: 900px; margin: 2em auto; background: #0e1120; color: #e6e2d6; font: 16px/1.5 sans-serif }
img { width: 100% } pre { overflow-x: auto } h2 { margin-top: 2em }
</style><h1>Guidance Kit: what guidance does</h1>
"""


@dataclass(frozen=True)
class Shown:
    """An example that was run. sheet: its picture's file, beside the page."""

    title: str
    note: str
    table: str
    sheet: str


def write_page(file: Path, examples: list[Shown]) -> None:
    """Write the page, whole or not at all."""
    write_whole(file, (HEAD + "".join(map(_part, examples))).encode())


def opened(file: Path) -> bool:
    """Open the page in the user's browser, where somebody sits before one."""
    seen = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(sys.stdout.isatty() and seen and webbrowser.open(file.as_uri()))


def _part(example: Shown) -> str:
    said = "".join(f"<p>{_emphasized(each)}</p>" for each in example.note.split("\n\n"))
    table = f"<pre>{html.escape(example.table)}</pre>" if example.table else ""
    title, sheet = html.escape(example.title), quote(example.sheet)
    return f'<h2>{title}</h2>{said}{table}<img src="{sheet}" alt="{title}">\n'


def _emphasized(text: str) -> str:
    """A note's paragraph, with its **bold** and *italic* words."""
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(text))
    return re.sub(r"\*(.+?)\*", r"<i>\1</i>", text)
