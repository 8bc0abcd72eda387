"""Contact sheets: every picture whole and in its place, every word readable, and a bounded size."""

import string

import numpy as np
import pytest

from guidance_core.drawing.contact_sheet import LARGEST, Cell, _letter_width, _Page, contact_sheet, in_rows
from guidance_core.drawing.plot import BACKGROUND, Canvas
from guidance_core.errors import shortened


def noise(count, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def found(sheet, picture):
    """(top, left) of a picture that is on a sheet exactly, at its own size."""
    height, width = picture.shape[:2]
    first = np.argwhere((sheet[: -height + 1, : -width + 1] == picture[0, 0]).all(-1))
    return [tuple(place) for place in first if (sheet[place[0] :, place[1] :][:height, :width] == picture).all()]


def test_pictures_are_whole_and_in_rows_and_columns():
    pictures = [[noise(1, 128, 160, seed=10 * row + column) for column in range(3)] for row in range(2)]
    cells = [[Cell(each, f"column {i}", ("33 of 50 passes",)) for i, each in enumerate(row)] for row in pictures]
    sheet = contact_sheet(["a sweep"], cells, ["first row", "second row"])
    assert sheet.zoom == 1
    places = np.array([[found(sheet.pixels, each[0]) for each in row] for row in pictures]).reshape(2, 3, 2)
    tops, lefts = places[..., 0], places[..., 1]
    assert (tops == tops[:, :1]).all()
    assert (lefts == lefts[:1]).all()
    assert (np.diff(lefts[0]) >= 160 + 8).all()
    assert tops[1, 0] - tops[0, 0] >= 128
    assert lefts[0, 0] > 40  # the rows' names are to the left
    assert (sheet.pixels[tops[0, 0] : tops[0, 0] + 128, : lefts[0, 0]] != BACKGROUND).any()


def test_a_batch_is_one_tile_of_all_its_pictures():
    batch = noise(3, 130, 130)
    sheet = contact_sheet([], [[Cell(batch, "all")]])
    places = [found(sheet.pixels, picture) for picture in batch]
    ((top, left),), ((right_top, right_left),), ((below_top, below_left),) = places
    assert right_top == top
    assert right_left >= left + 130
    assert below_left == left
    assert below_top >= top + 130


@pytest.mark.parametrize(("count", "shape"), [(1, [1]), (6, [6]), (7, [4, 3]), (12, [5, 5, 2]), (64, [10] * 6 + [4])])
def test_many_in_one_order_take_several_rows(count, shape):
    cells = [Cell(noise(1, 2, 2), str(i)) for i in range(count)]
    rows = in_rows(cells)
    assert [len(row) for row in rows] == shape
    assert [cell.title for row in rows for cell in row] == [cell.title for cell in cells]


@pytest.mark.parametrize(
    ("rows", "columns", "height", "width", "batch"),
    [(2, 8, 256, 256, 1), (12, 2, 200, 300, 1), (1, 1, 900, 16, 9), (2, 3, 400, 700, 2), (2, 3, 8, 8, 1)],
)
def test_sheets_are_bounded_and_small_pictures_enlarged(rows, columns, height, width, batch, monkeypatch):
    """However many and large the pictures; here for a smaller bound, which keeps the test quick."""
    monkeypatch.setattr("guidance_core.drawing.contact_sheet.LARGEST", 1200)
    cell = Cell(np.zeros((batch, height, width, 3), np.uint8), "classifier scale 2", ("target 83.1 %", "6 of 9 passes"))
    sheet = contact_sheet(["Sweep: cfg scale across", "20 steps"], [[cell] * columns] * rows, ["constant"] * rows)
    assert max(sheet.pixels.shape) <= 1200
    if max(height, width) < 64:
        assert sheet.zoom == 16
    if columns * width > 1200 or rows * height > 1200:
        assert sheet.zoom < 1


def test_the_most_columns_fit():
    cell = Cell(np.zeros((1, 16, 16, 3), np.uint8), "cfg scale 0.333333", ("target 83.1 %",))
    assert max(contact_sheet(["Sweep"], [[cell] * 32] * 2, ["1: constant"] * 2).pixels.shape) <= LARGEST


@pytest.mark.parametrize("words", ["0.143, " * 150, "0.143," * 150], ids=["of numbers", "without spaces"])
def test_long_texts_are_cut_and_the_sheet_stays_bounded(words, monkeypatch):
    """The pictures keep a place beside them."""
    monkeypatch.setattr("guidance_core.drawing.contact_sheet.LARGEST", 1400)
    cell = Cell(np.zeros((1, 64, 64, 3), np.uint8), words, (words,))
    sheet = contact_sheet([words], [[cell] * 4] * 4, [words] * 4)
    assert max(sheet.pixels.shape) <= 1400
    assert sheet.zoom > 0.1


@pytest.mark.parametrize("name", ["schedule keyframes " * 10, "0.143," * 40], ids=["words", "without spaces"])
@pytest.mark.parametrize(("rows", "columns"), [(64, 1), (1, 64), (32, 2)])
def test_the_most_rows_or_columns_are_bounded_by_smaller_letters(rows, columns, name):
    cell = Cell(np.zeros((1, 64, 64, 3), np.uint8), "cfg scale 1", ("target 83.1 %", "6 of 9 passes"))
    sheet = contact_sheet(["Sweep: cfg schedule"], [[cell] * columns] * rows, [name] * rows)
    assert max(sheet.pixels.shape) <= LARGEST


def test_letters_are_measured_once_however_long_the_words(monkeypatch):
    """Not the words themselves again and again; a text is as wide as its letters together."""
    measured = []
    width = Canvas.text_width
    monkeypatch.setattr(
        Canvas, "text_width", lambda self, text: measured.append((self.size, text)) or width(self, text)
    )
    _letter_width.cache_clear()
    words = ["".join(np.random.default_rng(i).permutation(list(string.printable.strip()))) for i in range(32)]
    picture = np.zeros((1, 64, 64, 3), np.uint8)
    contact_sheet(words[:1], [[Cell(picture, word, (word,)) for word in words[i::4]] for i in range(4)], words[:4])
    assert measured
    assert len(measured) == len(set(measured))
    for size, word in zip((5, 13, 34), words, strict=False):
        ruler = Canvas(1, 1, size)
        assert width(ruler, word) == sum(width(ruler, letter) for letter in word)


@pytest.mark.parametrize(("letters", "expected"), [(5, "seven"), (4, "seve..."), (1, "s...")])
def test_shortened_texts_end_in_dots(letters, expected):
    assert shortened("seven", letters) == expected


@pytest.mark.parametrize("width", [20, 100, 400])
def test_words_are_whole_and_inside_the_sheet(width):
    """Every word of every text is there, in lines that stay clear of each other's columns and of the edges."""
    texts = ("1: schedule interval by step from 0.2 to 0.8", "averyveryveryveryverylongwordwithoutanyspaces", "x")
    below = ("33 of 50 passes", "a probability that takes a few words")
    rows = [[Cell(noise(1, 2, 2), title, below) for title in texts] for _ in range(2)]
    head, names = ["Sweep: cfg scale across, cfg method down " * 3], texts[:2]
    page = _Page(head, rows, names, 100, width)
    said = "".join(line for *_, line, _, _ in page.words).replace(" ", "")
    for text in (*head, *names, *texts, *below):
        assert text.replace(" ", "") in said
    ruler = Canvas(1, 1, page.size)
    boxes = []
    for x, y, line, _, anchor in page.words:
        left = x if anchor[0] == "l" else x - ruler.text_width(line) / 2
        boxes.append((left, y, left + ruler.text_width(line), y + page.size))
    boxes += [(left, top, left + width, top + 100) for left, top in page.places]
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= page.width
        assert 0 <= top < bottom <= page.height
    for i, (left, top, right, bottom) in enumerate(boxes):
        for other_left, other_top, other_right, other_bottom in boxes[:i]:
            apart = right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top
            assert apart, (i, boxes[i])
