"""Writes the reference of the library, one page a module, from its docstrings into a folder (default: output/api)."""

import argparse
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pdoc
import pdoc.render

import guidance_core
from devtools.host import ROOT

# What has no public name of its own and is written about all the same: methods, shapes, spaces, heads, progress, demos.
ROOMS = (
    "cfg",
    "shapes",
    "parameterizations",
    "classifier.heads",
    "classifier.copies",
    "data.shards",
    "null",
    "progress",
    "demo",
    "demo.emoji",
)


def modules() -> list[str]:
    """The package, the modules that its public names come from, and ROOMS."""
    homes = sorted({*guidance_core._HOMES.values(), *ROOMS})
    return ["guidance_core", *(f"guidance_core.{home}" for home in homes)]


def write(folder: Path) -> None:
    """Write the pages."""
    pdoc.render.configure(show_source=False, footer_text=f"Guidance Kit {guidance_core.__version__}")
    pdoc.pdoc(*modules(), output_directory=folder)


def broken_links(folder: Path) -> list[str]:
    """Links of the pages that lead to no page or to no place on it, as 'page: link'."""
    texts = {page: page.read_text(encoding="utf-8") for page in folder.rglob("*.html")}
    places = {page: set(map(unescape, re.findall(r'\sid="([^"]+)"', text))) for page, text in texts.items()}
    found = []
    for page, text in texts.items():
        for link in set(map(unescape, re.findall(r'\shref="([^"]+)"', text))):
            file, _, place = link.partition("#")
            target = (page.parent / unquote(file)).resolve() if file else page
            if re.match(r"https?:|data:|\$\{", link):
                continue
            if target not in places or place and place not in places[target]:
                found.append(f"{page.relative_to(folder)}: {link}")
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devtools.make_api", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "api", help="default: %(default)s")
    folder = parser.parse_args().out
    write(folder)
    for link in broken_links(folder):
        print(f"A link leads nowhere: {link}")
    print(f"Wrote {folder / 'index.html'}.")


if __name__ == "__main__":
    main()
