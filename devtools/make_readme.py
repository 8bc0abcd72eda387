"""Writes the generated tables of the README: `python -m devtools.make_readme` (`--methods`: not the measured one)."""

import argparse
import re
import sys

from devtools.host import ROOT
from guidance_core import cfg_methods, demo
from guidance_core.cfg import Method
from guidance_core.demo.evaluate import evaluate
from guidance_core.terms import terms

README = ROOT / "README.md"


def methods_table() -> str:
    """A row for each CFG method, from its dataclass; the link leads to its section of the methods' page."""
    lines = ["| method | what it does |", "|---|---|"]
    for method in cfg_methods().values():
        lines.append(f"| [`{method.name}`](docs/cfg-methods.md#{anchor(heading(method))}) | {method.doc} |")
    return "\n".join(lines)


def terms_table() -> str:
    """A row for each term, from its dataclass."""
    lines = ["| term | what it does | added | more passes | source |", "|---|---|---|---|---|"]
    for term in terms().values():
        when = "before methods that adjust the result" if term.before_result else "after CFG"
        lines.append(f"| `{term.name}` | {term.doc} | {when} | {term.own_passes or 'none'} | {term.source} |")
    return "\n".join(lines)


def heading(method: type[Method]) -> str:
    """The heading of a method's section in docs/cfg-methods.md."""
    return f"`{method.name}`: {method.title}"


def anchor(heading: str) -> str:
    """The end of the address of a section, as Markdown's readers make it of the heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def results_table() -> str:
    """A row for each way and scale of guidance on the digits, measured now."""
    lines = ["| guidance | scale | judge accuracy | diversity | Frechet distance |", "|---|---|---|---|---|"]
    for row in evaluate(demo.load()):
        lines.append(
            f"| {row.guidance} | {row.scale:g} | {row.accuracy:.1%} | {row.diversity:.2f} | {row.frechet:.2f} |"
        )
    return "\n".join(lines)


def replaced(text: str, name: str, table: str) -> str:
    """The text with a new table between the marks of that name."""
    marks = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    return re.sub(marks, lambda found: f"{found[1]}{table}\n{found[2]}", text, flags=re.DOTALL)


def main() -> int:
    """Rewrite the tables in place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", action="store_true", help="only methods and terms, which takes no time")
    asked = parser.parse_args()
    text = replaced(README.read_text(encoding="utf-8"), "methods", methods_table())
    text = replaced(text, "terms", terms_table())
    if not asked.methods:
        text = replaced(text, "results", results_table())
    README.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
