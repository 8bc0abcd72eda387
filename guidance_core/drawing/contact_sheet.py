"""A contact sheet: pictures side by side, each with words above and below it, within a bounded size."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import accumulate, product

import numpy as np

from ..errors import shortened
from ..frozen import frozen
from .plot import BACKGROUND, TEXT, Canvas

LARGEST = 4096  # pixels along a side of a sheet; tiles are made smaller for it
SMALLEST = 128  # pixels along a side of a tile; it is enlarged for it, by a whole factor
NARROWEST = 96  # pixels of a column, for its words in the least letters
LETTERS = (13, 34)  # least and greatest size
LONGEST = 120  # letters of a text; fewer where all of them would not fit on a sheet
IN_A_ROW = 6
BRIGHT = (236, 239, 248)


@frozen(eq=False)
class Cell:
    """One place of a sheet: the pictures of a batch, uint8 [B, H, W, 3], a title above them, lines below them."""

    pictures: np.ndarray
    title: str = ""
    lines: tuple[str, ...] = ()


@frozen(eq=False)
class Sheet:
    """A finished sheet, uint8 [H, W, 3], and how large a pixel of the pictures is on it."""

    pixels: np.ndarray
    zoom: float


def in_rows(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells that have one order, as one row or, where they are many, as several."""
    width = len(cells) if len(cells) <= IN_A_ROW else math.ceil(math.sqrt(1.5 * len(cells)))
    return [list(cells[i : i + width]) for i in range(0, len(cells), width)]


def contact_sheet(head: Sequence[str], rows: Sequence[Sequence[Cell]], names: Sequence[str] = ()) -> Sheet:
    """Draw rows of cells whose pictures are all of one size.

    head: lines over everything, the first one bright. names: of the rows, at their left. Words are broken into lines;
    only those of a text over LONGEST are cut, or of the longest where even the smallest tiles left them no room; where
    that is not enough their letters are made smaller. Tiles are made smaller until the sheet is at most LARGEST pixels
    wide and high, and small ones larger.
    """
    names = names or [""] * len(rows)
    for least, halvings in product(range(LETTERS[0], 0, -1), range(LONGEST.bit_length())):
        texts = _shortened(head, rows, names, LONGEST >> halvings)
        page = _Page(*texts, 1, 1, least)
        if max(page.width, page.height) <= LARGEST:
            break
    tiles = [[_batch(cell.pictures) for cell in row] for row in rows]
    height, width = tiles[0][0].shape[:2]
    zoom = float(max(1, math.ceil(SMALLEST / min(height, width))))
    zoom = min(zoom, LARGEST / (width * max(map(len, rows))), LARGEST / (height * len(rows)))
    zoom = float(int(zoom)) if zoom > 1 else zoom
    while True:
        size = max(1, round(height * zoom)), max(1, round(width * zoom))
        page = _Page(*texts, *size, least)
        if max(page.width, page.height) <= LARGEST or max(size) == 1:
            break
        zoom = zoom - 1 if zoom > 1 else 0.95 * zoom
    pixels = page.drawn()
    for (left, top), tile in zip(page.places, (tile for row in tiles for tile in row), strict=True):
        pixels[top : top + size[0], left : left + size[1]] = _resized(tile, size)
    return Sheet(pixels, zoom)


def _shortened(head, rows, names, letters: int) -> tuple[list[str], list[list[Cell]], list[str]]:
    """All words of a sheet, each text with so many letters at most."""

    def each(texts):
        return [shortened(text, letters) for text in texts]

    cells = [
        [replace(cell, title=shortened(cell.title, letters), lines=tuple(each(cell.lines))) for cell in row]
        for row in rows
    ]
    return each(head), cells, each(names)


class _Page:
    """Where words and tiles go on a sheet with tiles of one size, in letters of at least this size."""

    def __init__(self, head, rows, names, height: int, width: int, least: int = LETTERS[0]):
        columns = max(map(len, rows))
        column = max(width, NARROWEST * least // LETTERS[0])
        self.size = round(min(max(min(columns * column / 28, column / 9), least), LETTERS[1]))
        self._letter = _letter_width(self.size)
        self._line = math.ceil(1.35 * self.size)
        self.words: list[tuple[float, float, str, tuple[int, int, int], str]] = []
        self.places: list[tuple[int, int]] = []

        gap = self.size
        at_left = [self._broken(name, max(column, 8 * self.size)) for name in names]
        edge = max((self._width(line) for lines in at_left for line in lines), default=0)
        start = gap + (math.ceil(edge) + gap if edge else 0)
        self.width = max(start + columns * (column + gap), 30 * self.size)
        y = gap
        for i, text in enumerate(head):
            y = self._write(gap, y, self._broken(text, self.width - 2 * gap), BRIGHT if i == 0 else TEXT, "l")
        for row, name in zip(rows, at_left, strict=True):
            y += gap
            titles = [self._broken(cell.title, column) for cell in row]
            below = [[line for text in cell.lines for line in self._broken(text, column)] for cell in row]
            top = y + self._line * max(map(len, titles))
            bottom = top + height + self._line * max(map(len, below))
            self._write(gap, top + max(0, (height - self._line * len(name)) // 2), name, BRIGHT, "l")
            for i, (title, lines) in enumerate(zip(titles, below, strict=True)):
                left = start + i * (column + gap)
                middle = left + column / 2
                self._write(middle, top - self._line * len(title), title, BRIGHT, "m")
                self._write(middle, top + height + self._line // 4, lines, TEXT, "m")
                self.places.append((left + (column - width) // 2, top))
            y = max(bottom, top + self._line * len(name)) + self._line // 4
        self.height = y + gap

    def drawn(self) -> np.ndarray:
        """The sheet without its tiles."""
        canvas = Canvas(self.width, self.height, self.size)
        for word in self.words:
            canvas.text(*word)
        return canvas.pixels().copy()

    def _write(self, x: float, y: int, lines: Sequence[str], colour, side: str) -> int:
        for line in lines:
            self.words.append((x, y, line, colour, f"{side}a"))
            y += self._line
        return y

    def _width(self, text: str) -> float:
        return sum(map(self._letter, text))

    def _broken(self, text: str, width: float) -> list[str]:
        """A text in lines of this width, broken between words, and inside a word only where it is wider by itself."""
        lines: list[str] = []
        for word in text.split():
            joined = f"{lines[-1]} {word}" if lines else word
            if lines and self._width(joined) <= width:
                lines[-1] = joined
                continue
            while self._width(word) > width and len(word) > 1:
                fits = max(1, bisect_right(list(accumulate(map(self._letter, word))), width))
                lines.append(word[:fits])
                word = word[fits:]
            lines.append(word)
        return lines


@cache
def _letter_width(size: int) -> Callable[[str], float]:
    """The width of a letter of this size. The font has no kerning: a text is as wide as its letters together."""
    return cache(Canvas(1, 1, size).text_width)


def _batch(pictures: np.ndarray) -> np.ndarray:
    """The pictures of a batch as one, in a square as nearly as they fill it."""
    count, height, width = pictures.shape[:3]
    across = math.ceil(math.sqrt(count))
    gap = max(2, width // 64) if count > 1 else 0
    down = math.ceil(count / across)
    whole = np.full((down * (height + gap) - gap, across * (width + gap) - gap, 3), BACKGROUND, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // across * (height + gap), i % across * (width + gap)
        whole[top : top + height, left : left + width] = picture
    return whole


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    if picture.shape[:2] == size:
        return picture
    way = Image.Resampling.LANCZOS if size[0] < picture.shape[0] else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize(size[::-1], way))
