"""Line plots and the canvas below them, drawn with Pillow, which is imported when the first picture is drawn."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import GuidanceError
from ..frozen import frozen
from ..writing import written_whole

Colour = tuple[int, int, int]

BACKGROUND = (24, 26, 33)
GRID = (52, 56, 68)
SHADE = (36, 44, 62)
TEXT = (176, 182, 196)
BLUE = (110, 168, 254)
AMBER = (246, 190, 92)
GREEN = (124, 208, 148)
SMOOTHING = 2  # drawn this much larger, then reduced
SIZE = 11  # of letters


class Box(NamedTuple):
    """A part of a picture."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height


@frozen
class Ink:
    """The colours of a picture, (red, green, blue) or with an alpha; strength: how much of a line's own is left."""

    background: tuple[int, ...] = BACKGROUND
    text: Colour = TEXT
    grid: tuple[int, ...] = GRID
    shade: tuple[int, ...] = SHADE
    strength: float = 1.0

    def of(self, colour: Colour, share: float = 1.0) -> Colour:
        """A line's colour; a share below 1 fades it into what it is drawn on."""
        red, green, blue = (round(self.strength * part) for part in colour)
        return mixed((red, green, blue), share, (self.background[0], self.background[1], self.background[2]))


DARK = Ink()
CLEAR = Ink((128, 134, 146, 0), (128, 134, 146), (128, 134, 146, 70), (110, 168, 254, 50), 0.82)
"""Letters and lines that can be read on dark and on light paper, and no paper of its own."""


class Canvas:
    """A picture in the making; every place and size is in pixels of the finished one. size: of letters."""

    def __init__(self, width: int, height: int, size: int = SIZE, ink: Ink = DARK):
        from PIL import Image, ImageDraw, ImageFont

        self.width, self.height, self.size, self.ink = width, height, size, ink
        mode = "RGB" if len(ink.background) == 3 else "RGBA"
        self._image = Image.new(mode, (width * SMOOTHING, height * SMOOTHING), ink.background)
        self._draw = ImageDraw.Draw(self._image)
        self._font = ImageFont.load_default(size=size * SMOOTHING)

    def text_width(self, text: str) -> float:
        return self._draw.textlength(text, font=self._font) / SMOOTHING

    def fitted(self, text: str, width: float) -> str:
        """The text, or as much of it as fits and three dots."""
        if self.text_width(text) <= width:
            return text
        while text and self.text_width(f"{text}...") > width:
            text = text[:-1]
        return f"{text}..."

    def text(self, x: float, y: float, text: str, colour: Colour | None = None, anchor: str = "la") -> None:
        """anchor: Pillow's: l, m or r across, then a, m or s for the tops, middle or baseline of the letters."""
        self._draw.text(
            (x * SMOOTHING, y * SMOOTHING), text, fill=colour or self.ink.text, font=self._font, anchor=anchor
        )

    def upright(self, x: float, y: float, text: str, colour: Colour = TEXT) -> None:
        """Text that runs upwards, centred on x, and ends at y."""
        from PIL import Image, ImageDraw

        length, height = math.ceil(self.text_width(text) * SMOOTHING), 3 * self.size * SMOOTHING // 2
        strip = Image.new("L", (length, height))
        ImageDraw.Draw(strip).text((0, height / 2), text, fill=255, font=self._font, anchor="lm")
        place = (round(x * SMOOTHING - height / 2), round(y * SMOOTHING))
        self._image.paste(colour, place, strip.transpose(Image.Transpose.ROTATE_90))

    def line(self, points: Sequence[tuple[float, float]], colour: tuple[int, ...], width: float = 1) -> None:
        scaled = [(x * SMOOTHING, y * SMOOTHING) for x, y in points]
        self._draw.line(scaled, fill=colour, width=round(width * SMOOTHING), joint="curve")

    def dashes(self, start: tuple[float, float], end: tuple[float, float], colour: Colour, dash: float = 4) -> None:
        (x, y), pieces = start, max(1, round(math.dist(start, end) / dash))
        for i in range(0, pieces, 2):
            ends = (i / pieces, min(1.0, (i + 1) / pieces))
            self.line([(x + (end[0] - x) * s, y + (end[1] - y) * s) for s in ends], colour)

    def fill(self, box: Box, colour: tuple[int, ...]) -> None:
        corners = [(round(x * SMOOTHING), round(y * SMOOTHING)) for x, y in ((box[:2]), (box.right, box.bottom))]
        (left, top), (right, bottom) = corners
        if right > left and bottom > top:
            self._draw.rectangle([(left, top), (right - 1, bottom - 1)], fill=colour)

    def dot(self, x: float, y: float, colour: Colour, radius: float = 2) -> None:
        ends = [((x + s * radius) * SMOOTHING, (y + s * radius) * SMOOTHING) for s in (-1, 1)]
        self._draw.ellipse(ends, fill=colour)

    def pixels(self) -> np.ndarray:
        """The finished picture, uint8 [height, width, 3], with a fourth channel where the ink has no paper."""
        from PIL import Image

        return np.asarray(self._image.resize((self.width, self.height), Image.Resampling.LANCZOS))


@frozen
class Line:
    """One curve of a panel. values: one a point, in order; None leaves a gap.

    places: of the points along the panel, in [0, 1]; even where not given. dots: marks every point. dashed: for what
    the other curves are held against.
    """

    values: Sequence[float | None]
    colour: Colour
    name: str = ""
    faint: bool = False
    places: Sequence[float] | None = None
    dots: bool = False
    dashed: bool = False


@frozen
class Panel:
    """One plot: a title, its lines, and its ordinate's range where it is not that of the data.

    ticks: (place along the panel in [0, 1], text). shade: the part of it to set apart. empty: what stands in a panel
    without values.
    """

    title: str
    lines: Sequence[Line]
    low: float | None = None
    high: float | None = None
    ticks: Sequence[tuple[float, str]] = ()
    shade: tuple[float, float] | None = None
    empty: str = "not run"


def nice(value: float) -> str:
    """A number in three digits."""
    return "0" if value == 0 else f"{value:.3g}"


def mixed(colour: Colour, share: float, background: Colour = BACKGROUND) -> Colour:
    """`share` of a colour over the background."""
    red, green, blue = (round(share * c + (1 - share) * b) for c, b in zip(colour, background, strict=True))
    return red, green, blue


def plot(canvas: Canvas, panel: Panel, box: Box) -> None:
    """Draw a panel into a box of the canvas."""
    inner = Box(box.left + 46, box.top + 24, box.width - 58, box.height - 44)
    right = inner.right
    for line in reversed([line for line in panel.lines if line.name]):
        colour = canvas.ink.of(line.colour, 2 / 3 if line.faint else 1.0)  # brighter than the line, to be read
        canvas.text(right, box.top + 5, line.name, colour, anchor="ra")
        right -= canvas.text_width(line.name) + 12
    canvas.text(inner.left, box.top + 5, canvas.fitted(panel.title, right - inner.left))
    if not any(value is not None for line in panel.lines for value in line.values):
        canvas.text(inner.left + inner.width / 2, inner.top + inner.height / 2, panel.empty, anchor="mm")
        return
    if panel.shade is not None:
        start, end = panel.shade
        canvas.fill(
            Box(inner.left + start * inner.width, inner.top, (end - start) * inner.width, inner.height),
            canvas.ink.shade,
        )
    low, high = _range(panel)
    for share in (0.0, 0.5, 1.0):
        y = inner.bottom - share * inner.height
        canvas.line([(inner.left, y), (inner.right, y)], canvas.ink.grid)
        canvas.text(inner.left - 6, y, nice(low + (high - low) * share), anchor="rm")
    for place, name in panel.ticks:
        half = canvas.text_width(name) / 2
        x = min(max(inner.left + place * inner.width, inner.left + half), inner.right - half)
        canvas.text(x, inner.bottom + 4, name, anchor="ma")
    for line in panel.lines:
        _draw(canvas, line, inner, low, high)


def picture(
    panels: Sequence[Panel], width: int = 480, height: int = 150, size: int = SIZE, ink: Ink = DARK
) -> np.ndarray:
    """Panels one below the other, uint8 [H, W, 3], or [H, W, 4] where the ink has no paper. size: of letters."""
    canvas = Canvas(width, height * len(panels), size, ink)
    for i, panel in enumerate(panels):
        plot(canvas, panel, Box(0, i * height, width, height))
    return canvas.pixels()


def check_png(file: str | os.PathLike) -> None:
    """Raise GuidanceError where no PNG file can be written."""
    file = Path(file)
    if file.suffix.lower() != ".png" or not file.parent.is_dir():
        raise GuidanceError(f"A picture must go to a .png file in a folder that exists, got '{file}'.")


def write_png(pixels: np.ndarray, file: str | os.PathLike) -> None:
    """Write uint8 [H, W, 3] as a PNG file, whole or not at all. Raises what check_png does."""
    from PIL import Image

    check_png(file)
    with written_whole(file) as stream:
        Image.fromarray(pixels).save(stream, "png")


def _range(panel: Panel) -> tuple[float, float]:
    values = [v for line in panel.lines for v in line.values if v is not None and math.isfinite(v)]
    low = panel.low if panel.low is not None else min(values, default=0.0)
    high = panel.high if panel.high is not None else max(values, default=1.0)
    return (low - 0.5, high + 0.5) if high - low < 1e-9 else (low, high)


def _draw(canvas: Canvas, line: Line, inner: Box, low: float, high: float) -> None:
    colour = canvas.ink.of(line.colour, 1 / 3 if line.faint else 1.0)
    count = len(line.values)
    places = line.places if line.places is not None else [i / max(count - 1, 1) for i in range(count)]
    pieces: list[list[tuple[float, float]]] = [[]]
    for place, value in zip(places, line.values, strict=True):
        if value is None or not math.isfinite(value):
            pieces.append([])
            continue
        share = (min(max(value, low), high) - low) / (high - low)
        pieces[-1].append((inner.left + place * inner.width, inner.bottom - share * inner.height))
    for points in pieces:
        if line.dots or len(points) == 1:
            for point in points:
                canvas.dot(*point, colour)
        if line.dashed:
            for a, b in zip(points, points[1:], strict=False):
                canvas.dashes(a, b, colour)
        elif len(points) > 1:
            canvas.line(points, colour, 1 if line.faint else 2)
