"""Writes the generated tables of the README: `python -m devtools.make_readme` (`--methods`: not the measured one)."""

import argparse
import re
import sys

from devtools.host import ROOT
from guidance_core import cfg_methods, demo
from guidance_core.demo.evaluate import evaluate
from guidance_core.params import Param, params_of

README = ROOT / "README.md"


def methods_table() -> str:
    """A row for each CFG method, from its dataclass."""
    lines = ["| method | what it does | parameters | source |", "|---|---|---|---|"]
    for method in cfg_methods().values():
        parameters = "; ".join(_parameter(name, param) for name, param in params_of(method).items())
        lines.append(f"| `{method.name}` | {method.doc} | {parameters} | {method.source} |")
    return "\n".join(lines)


def _parameter(name: str, param: Param) -> str:
    if param.kind is object:
        return f"`{name}` ({param.socket} to connect): {param.doc.rstrip('.')}"
    bounds = f" [{param.low:g}, {param.high:g}]" if param.kind in (int, float) else ""
    default = "empty" if param.default == "" else param.default
    return f"`{name}` = {default}{bounds}: {param.doc.rstrip('.')}"


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
    parser.add_argument("--methods", action="store_true", help="only the methods, which takes no time")
    asked = parser.parse_args()
    text = replaced(README.read_text(encoding="utf-8"), "methods", methods_table())
    if not asked.methods:
        text = replaced(text, "results", results_table())
    README.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
