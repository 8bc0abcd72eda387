"""A contact sheet with the name of each row above it, for thumbnails and for the demo."""

import textwrap

from PIL import Image, ImageDraw, ImageFont

from devtools.workflows.parts import SHEET, SPACE

PAPER, INK, ACCENT = (14, 17, 32), (230, 226, 214), (240, 180, 60)
SIDE = 840  # pixels of a thumbnail, which the template browser shows as a square
WIDTH, EDGE, CAPTION, CURVE = 840, 20, 44, 160  # pixels: the picture, its border, a row's name, a row's curve
PLOT = (44, 18, 472, 176)  # of a schedule's picture: the curve without its ticks


def row_names(workflow: dict) -> dict[str, str]:
    """The sampler of each row of a workflow's contact sheet, by node id, and the row's name."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    sources = {link[0]: nodes[link[1]] for link in workflow["links"]}
    sheets = [node for node in nodes.values() if node["type"] == SHEET]
    rows = [sources[socket["link"]] for node in sheets for socket in node["inputs"]]
    return {str(node["id"]): node.get("title", node["type"]) for node in rows}


def captioned(sheet: Image.Image, names: list[str], curves: list[Image.Image | None] = ()) -> Image.Image:
    """A contact sheet of as many rows as there are names, each under its name and beside its curve if it has one."""
    curves = list(curves) or [None] * len(names)
    left = EDGE + (CURVE + EDGE if any(curves) else 0)
    height = (sheet.height + SPACE) // len(names)
    strips = [
        sheet.convert("RGB").crop((0, y, sheet.width, y + height - SPACE)) for y in range(0, sheet.height, height)
    ]
    strips = [_wide(strip, WIDTH - EDGE - left) for strip in strips]
    tall = CAPTION + strips[0].height
    made = Image.new("RGB", (WIDTH, tall * len(names) + EDGE), PAPER)
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(size=25)
    for i, (name, strip, curve) in enumerate(zip(names, strips, curves, strict=True)):
        draw.text((EDGE, tall * i + CAPTION - 10), name, fill=INK, font=font, anchor="ls")
        made.paste(strip, (left, tall * i + CAPTION))
        if curve is not None:
            line = curve.convert("RGB").crop(PLOT).resize((CURVE, strip.height), Image.Resampling.LANCZOS)
            made.paste(line, (EDGE, tall * i + CAPTION))
    return made


def squared(sheet: Image.Image, names: list[str], curves: list[Image.Image | None] = ()) -> Image.Image:
    """A square picture for the template browser: of a captioned contact sheet as many columns as it has room for."""
    if not names:
        return _in_square(sheet.convert("RGB"))
    height = (sheet.height + SPACE) // len(names)
    room = SIDE // len(names) - CAPTION - EDGE
    columns = max(2, (WIDTH - 2 * EDGE) // room)
    return _in_square(
        captioned(sheet.crop((0, 0, min(sheet.width, columns * height - SPACE), sheet.height)), names, curves)
    )


def title_card(family: str, title: str) -> Image.Image:
    """A square with a family's name and a graph's title, for graphs whose models are the user's own."""
    made = Image.new("RGB", (SIDE // 2, SIDE // 2), PAPER)
    draw = ImageDraw.Draw(made)
    draw.text((EDGE, EDGE), family, fill=ACCENT, font=ImageFont.load_default(size=56))
    lines = "\n".join(textwrap.wrap(title, 18))
    draw.multiline_text((EDGE, 7 * EDGE), lines, fill=INK, font=ImageFont.load_default(size=38), spacing=12)
    return made


def _in_square(picture: Image.Image) -> Image.Image:
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    made = Image.new("RGB", (SIDE, SIDE), PAPER)
    made.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    return made


def _wide(picture: Image.Image, width: int) -> Image.Image:
    return picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
