"""Pictures: what is drawn lies where its numbers say."""

import dataclasses

import numpy as np
import pytest
import torch

import guidance_core as gc
from guidance_core.assess.page import WIDTH, card_picture
from guidance_core.classifier.card import Card, Record
from guidance_core.classifier.heads import as_head
from guidance_core.classifier.measurements import Bin, Suggestion
from guidance_core.drawing.plot import AMBER, BACKGROUND, BLUE, GREEN, SHADE, Canvas, Line, Panel, picture

pytest.importorskip("PIL")


def where(image, colour, tolerance=40):
    """Rows and columns of the pixels of about a colour."""
    return np.nonzero(np.abs(image.astype(int) - colour).max(2) <= tolerance)


def test_a_picture_is_as_large_as_asked():
    image = picture([Panel("one", [Line([0, 1], BLUE)]), Panel("two", [Line([1, 0], BLUE)])], 300, 100)
    assert image.shape == (200, 300, 3) and image.dtype == np.uint8
    assert tuple(image[0, 0]) == BACKGROUND


def test_higher_values_are_higher_and_later_ones_further_right():
    image = picture([Panel("", [Line([0.0, 0.5, 1.0], BLUE, dots=True), Line([0.25], AMBER, places=[0.75])])], 400, 200)
    rows, columns = where(image, BLUE)
    assert np.corrcoef(rows, columns)[0, 1] < -0.99
    (row, column) = (np.mean(v) for v in where(image, AMBER))
    left, right, top, bottom = columns.min(), columns.max(), rows.min(), rows.max()
    assert column == pytest.approx(left + 0.75 * (right - left), abs=3)
    assert row == pytest.approx(bottom - 0.25 * (bottom - top), abs=3)


def test_values_beyond_the_range_stay_in_the_panel():
    image = picture([Panel("", [Line([-9.0, 9.0], BLUE)], low=0.0, high=1.0)], 300, 120)
    rows, _ = where(image, BLUE)
    assert rows.min() >= 20 and rows.max() <= 120 - 18


@pytest.mark.parametrize("gap", [None, float("nan")])
def test_a_gap_is_left_open(gap):
    whole = picture([Panel("", [Line([0.5, 0.5, 0.5, 0.5, 0.5], GREEN)])], 400, 120)
    open_ = picture([Panel("", [Line([0.5, 0.5, gap, 0.5, 0.5], GREEN)])], 400, 120)
    inner = slice(46, 388)  # beside the numbers of the ordinate
    holes = np.diff(np.unique(where(open_[:, inner], GREEN)[1]))
    assert np.diff(np.unique(where(whole[:, inner], GREEN)[1])).max() == 1
    assert holes.max() == pytest.approx(2 * (400 - 58) / 4, abs=6)


def test_a_panel_without_values_says_so():
    image = picture([Panel("", [Line([None, None], BLUE)], empty="nothing here")], 300, 100)
    assert len(where(image, BLUE)[0]) == 0 and len(np.unique(image[40:60].reshape(-1, 3), axis=0)) > 2


def test_the_shade_lies_where_it_was_asked():
    image = picture([Panel("", [Line([0.0, 1.0], BLUE)], shade=(0.25, 0.75))], 458, 144)
    _, columns = where(image, SHADE, tolerance=2)
    assert (columns.min(), columns.max()) == (pytest.approx(46 + 100, abs=1), pytest.approx(46 + 300, abs=1))


def test_text_is_shortened_to_fit():
    canvas = Canvas(10, 10)
    short = canvas.fitted("a very long label", 60)
    assert short.endswith("...") and canvas.text_width(short) <= 60
    assert canvas.fitted("cat", 60) == "cat"


BINS = tuple(Bin(-6.0 + 3 * i, -3.0 + 3 * i, a, 0.03, 1 - a, 1.0 + i) for i, a in enumerate((0.3, 0.6, 0.9, 0.99)))


def card(head="single", labels=3, **record):
    names = [f"label {i}" for i in range(labels)]
    return Card(names, "sd15", (-6.0, 6.0), "latent_encoder", {}, {}, as_head(head), Record(bins=BINS, **record))


FULL = {
    "chance": 0.33,
    "chance_loss": 1.1,
    "confusion": ((90, 5, 5), (0, 100, 0), (10, 20, 70)),
    "suggestion": Suggestion(1.5, (-3.0, 3.0), "Because it is so. " * 20),
}


@pytest.mark.parametrize("head", ["single", "multi", "regression"])
@pytest.mark.parametrize("parts", [(), ("chance",), ("confusion",), ("suggestion",), tuple(FULL)])
def test_any_measured_card_is_drawn(head, parts):
    if head != "single":
        parts = [part for part in parts if part != "confusion"]
    image = card_picture(card(head, **{part: FULL[part] for part in parts}))
    assert image.shape[1:] == (WIDTH, 3) and image.dtype == np.uint8
    assert len(where(image, BLUE)[0]) > 100


def test_the_suggested_range_is_shaded_in_every_panel():
    image = card_picture(card(**FULL))
    rows, columns = where(image[:, :520], SHADE, tolerance=2)
    assert len(rows) > 10_000
    inner = 520 - 58
    assert columns.min() == pytest.approx(46 + inner / 4, abs=1.5)
    assert columns.max() == pytest.approx(46 + inner * 3 / 4, abs=1.5)
    assert len(np.nonzero(np.diff(np.unique(rows)) > 30)[0]) == 2  # three panels
    assert len(where(card_picture(card(**FULL | {"suggestion": None}))[:, :520], SHADE, tolerance=2)[0]) < 10


@pytest.mark.parametrize("labels", [1, 2, 12, 24, 25, 64])
def test_confusions_of_any_size_fit(labels):
    confusion = tuple(tuple(9 * (i == j) + 1 for j in range(labels)) for i in range(labels))
    image = card_picture(card(labels=labels, **FULL | {"confusion": confusion}))
    right = image[:, 530:]
    rows, columns = np.nonzero((right != np.array(BACKGROUND)).any(2))
    assert columns.max() < WIDTH - 530 - 8  # a margin is left
    without = card_picture(card(labels=labels, **FULL | {"confusion": None}))
    assert (right[60:500] != without[60:500, 530:]).any()


def test_calibration_is_drawn_from_the_reliability():
    reliability = torch.zeros(4, 15, 3)
    reliability[1:3, 3] = torch.tensor([10.0, 2.0, 9.0])  # sure to 20 %, right in 90 %
    reliability[1:3, 12] = torch.tensor([10.0, 8.0, 8.0])
    with_it = card_picture(card(**FULL), reliability)
    rows, columns = where(with_it[60:190, 620:], AMBER)
    top = rows[columns < 0.4 * columns.max()].min()
    assert top < 40  # the overly modest answers stand high above the diagonal, on the left
    assert np.array_equal(card_picture(card(**FULL), torch.zeros(4, 15, 3)), card_picture(card(**FULL)))


def test_a_card_without_measurements_is_refused():
    with pytest.raises(gc.GuidanceError, match="has no measurements to draw: evaluate it first"):
        card_picture(dataclasses.replace(card(), record=Record()))
