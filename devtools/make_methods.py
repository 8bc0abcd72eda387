"""Writes docs/cfg-methods.md and its picture: `python -m devtools.make_methods`, which measures for half an hour.

`--text` rewrites only what follows from the methods' dataclasses, which takes no time. `--rows FILE` keeps each row in
a file as soon as it is measured, and takes those that are there already: a run that was cut short goes on.
"""

import argparse
import inspect
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from devtools.host import ROOT
from devtools.make_readme import heading, replaced
from devtools.measure_methods import SAMPLES, Row, rows
from guidance_core import Run, cfg_methods
from guidance_core.cfg import Method, Phase
from guidance_core.params import Param, params_of

PAGE = ROOT / "docs" / "cfg-methods.md"
PICTURE = ROOT / "docs" / "images" / "cfg-methods.jpg"
ZOOM, LABEL, GAP, LINE = 3, 200, 30, 52  # of the picture, in pixels: a digit's pixel, names, margins, lines


def results(measured: list[Row]) -> str:
    """The table of rows, and which of them beat standard guidance."""
    lines = [
        "| setting | judge accuracy | diversity | Frechet distance | out of range | network passes |",
        "|---|---|---|---|---|---|",
    ]
    for row in measured:
        numbers = f"{row.accuracy:.1%} | {row.diversity:.2f} | {row.frechet:.2f} | {row.excess:.2%}"
        lines.append(f"| {row.name} | {numbers} | {f'{row.passes:.1f}' if row.passes else ''} |")
    standard = next(row for row in measured if row.name == "standard")
    least, most = standard.accuracy - 0.01, standard.frechet
    guided = [row for row in measured if row.passes and row.name != "off"]
    better = "; ".join(row.name for row in guided if row.accuracy >= least and row.frechet < most)
    lines += ["", f"Nearer to real digits than `standard`, with at most a point less of accuracy: {better}."]
    return "\n".join(lines)


PHASES = {
    Phase.PREDICTIONS: "the predictions cond and uncond",
    Phase.DIFFERENCE: "the difference cond - uncond",
    Phase.SCALE: "the scale",
    Phase.RESULT: "the result, uncond + scale * (cond - uncond)",
}


def acts_on(method: type[Method]) -> list[Phase]:
    """The phases in which a method acts when what it needs is connected, in a run from noise."""
    predicts = [name for name, param in params_of(method).items() if param.socket in ("model", "conditioning")]
    connected = {name: lambda x, sigma: x for name in predicts}
    return sorted(method(**connected).start(Run(sigmas=(100.0, 1.0, 0.0))))


def order() -> str:
    """What acts on what, first to last."""
    lines = ["| acts on | methods, first to last |", "|---|---|"]
    methods = sorted(cfg_methods().values(), key=lambda method: (method.rank, method.name))
    for phase, what in PHASES.items():
        names = ", ".join(f"`{method.name}`" for method in methods if phase in acts_on(method))
        lines.append(f"| {what} | {names} |")
    return "\n".join(lines)


def exclusions() -> str:
    """What only one method of a chain can decide."""
    decided: dict[str, list[str]] = {}
    for method in cfg_methods().values():
        for what in sorted(method.decides):
            decided.setdefault(what, []).append(f"`{method.name}`")
    return "\n".join(f"- {what}: {', '.join(names)}" for what, names in sorted(decided.items()))


def sections() -> str:
    """One section a method."""
    return "\n\n".join(_section(method) for method in cfg_methods().values())


def _section(method: type[Method]) -> str:
    others = [other.name for other in cfg_methods().values() if other is not method and other.decides & method.decides]
    facts = [f"Source: {method.source}."]
    if phases := acts_on(method):
        facts.append(f"Acts on {' and on '.join(PHASES[phase] for phase in phases)}.")
    if others:
        facts.append(f"Not together with {', '.join(f'`{other}`' for other in others)}.")
    summary = inspect.getdoc(inspect.getmodule(method)).partition("\n\n")[0]
    parts = [f"### {heading(method)}", f"{summary} {method.doc}", " ".join(facts)]
    if params_of(method):
        table = ["| parameter | default | range | |", "|---|---|---|---|"]
        table += parameter_rows(method)
        parts.append("\n".join(table))
    return "\n\n".join(parts)


def parameter_rows(kind: type) -> list[str]:
    """A row for each declared parameter of a dataclass."""
    return [_parameter(name, param) for name, param in params_of(kind).items()]


def _parameter(name: str, param: Param) -> str:
    if param.kind is object:
        return f"| `{name}` | none | a {param.socket} | {param.doc} |"
    bounds = f"{param.low:g} to {param.high:g}" if param.kind in (int, float) else ""
    return f"| `{name}` | {'empty' if param.default == '' else param.default} | {bounds} | {param.doc} |"


def with_text(page: str) -> str:
    """The page with all that follows from the methods' dataclasses written anew."""
    for name, block in (("order", order()), ("exclusions", exclusions()), ("methods", sections())):
        page = replaced(page, name, block)
    return page


def picture(measured: list[Row]) -> Image.Image:
    """Ten digits a row, in two columns of rows, each with its name."""
    half = (len(measured) + 1) // 2
    digits = 10 * 16 * ZOOM
    block = LABEL + digits
    image = Image.new("RGB", (2 * block + 3 * GAP, half * LINE + 2 * GAP), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=18)
    for place, row in enumerate(measured):
        left, top = GAP + place // half * (block + GAP), GAP + place % half * LINE
        draw.text((left + LABEL - 12, top + LINE // 2), row.name, "black", font, anchor="rm")
        line = torch.tensor(list(bytes.fromhex(row.digits)), dtype=torch.uint8).reshape(10, 16, 16)
        strip = Image.fromarray(torch.cat(list(line), 1).numpy())
        strip = strip.resize((digits, 16 * ZOOM), Image.Resampling.NEAREST)
        image.paste(strip, (left + LABEL, top + (LINE - 16 * ZOOM) // 2))
    return image


def main() -> int:
    """Write the page in place, and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", action="store_true", help="only what follows from the methods, nothing measured")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="keep the measured rows here, and go on from them")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of each row; a multiple of 100")
    asked = parser.parse_args()
    measured = []
    for row in () if asked.text else rows(asked.samples, asked.rows):
        print(f"{row.name:24} {row.accuracy:7.1%} {row.frechet:7.2f} {row.passes:6.1f}", flush=True)
        measured.append(row)
    page = with_text(PAGE.read_text(encoding="utf-8"))
    if measured:
        page = replaced(page, "results", results(measured))
        picture(measured).save(PICTURE, quality=90)
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
