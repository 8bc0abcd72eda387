"""One page about a classifier: accuracy, calibration and temperature by noise level, confusion, and the suggestion."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..classifier.card import Card
from ..classifier.measurements import Bin
from ..drawing.plot import AMBER, BLUE, GREEN, TEXT, Box, Canvas, Line, Panel, mixed, nice, plot
from ..errors import GuidanceError
from .recommend import knowledge

WIDTH, LEFT, ROW, TOP, LINE = 960, 520, 170, 36, 16
MOST_NAMES = 24  # labels that fit beside a confusion matrix
MOST_NUMBERS = 12
TICKS = 8


def card_picture(card: Card, reliability: Tensor | None = None) -> np.ndarray:
    """A page about an evaluated classifier, uint8 [H, W, 3].

    reliability: that of the Evaluation, for a calibration plot; a card does not hold it.
    Raises GuidanceError for a card without measurements.
    """
    record = card.record
    if not record.bins:
        raise GuidanceError("This classifier has no measurements to draw: evaluate it first.")
    panels = _panels(card)
    rows = ROW * (3 if record.confusion is not None else len(panels))
    said = _wrapped(record.suggestion.reason if record.suggestion else "", WIDTH - 58)
    canvas = Canvas(WIDTH, TOP + rows + 24 + LINE * len(said))
    canvas.text(46, 14, canvas.fitted(_title(card), LEFT + 200))
    if record.suggestion is not None and record.suggestion.log_snr_range is not None:
        advice = "weak: train longer, or on more examples"
        if not record.suggestion.weak:
            advice = f"guide in the shaded range, scale {nice(record.suggestion.scale)}"
        canvas.text(WIDTH - 12, 14, advice, AMBER, "ra")
    for i, panel in enumerate(panels):
        plot(canvas, panel, Box(0, TOP + i * ROW, LEFT, ROW))
    right = Box(LEFT, TOP, WIDTH - LEFT, 3 * ROW)
    if reliability is not None and float(reliability.sum()) > 0:
        plot(canvas, _calibration(card, reliability), Box(LEFT + 60, TOP, WIDTH - LEFT - 60, ROW))
        right = Box(LEFT, TOP + ROW, WIDTH - LEFT, 2 * ROW)
    if record.confusion is not None:
        _draw_confusion(canvas, record.confusion, card.labels, right)
    for i, line in enumerate(said):
        canvas.text(46, TOP + rows + 8 + LINE * i, line)
    return canvas.pixels()


def card_panels(card: Card, reliability: Tensor | None = None) -> list[Panel]:
    """The plots of that page, one below the other where there is no room for a page."""
    if reliability is None or float(reliability.sum()) == 0:
        return _panels(card)
    return [*_panels(card), _calibration(card, reliability)]


def _title(card: Card) -> str:
    space = f" on {card.latent_space} latents" if card.latent_space else ""
    return f"Noisy classifier{space}: {card.head.titled(len(card.labels))}"


def _panels(card: Card) -> list[Panel]:
    record, bins = card.record, card.record.bins
    first, last = bins[0].log_snr_low, bins[-1].log_snr_high

    def place(log_snr: float) -> float:
        return min(max((log_snr - first) / (last - first), 0.0), 1.0)

    def line(values: Sequence[float], colour: tuple[int, int, int], name: str) -> Line:
        return Line(values, colour, name, places=[place((b.log_snr_low + b.log_snr_high) / 2) for b in bins], dots=True)

    def level(value: float, name: str) -> Line:
        return Line([value, value], TEXT, name, dashed=True, places=[0.0, 1.0])

    ticks = _ticks(first, last)
    shade: tuple[float, float] | None = None
    if record.suggestion is not None and record.suggestion.log_snr_range is not None:
        low, high = record.suggestion.log_snr_range
        shade = place(low), place(high)
    certain = card.head.has_probabilities
    accuracy = [line([b.accuracy for b in bins], BLUE, card.head.accuracy_name)]
    if record.chance_loss is not None and certain:
        accuracy.append(line([max(0.0, knowledge(b, record.chance_loss)) for b in bins], GREEN, "known of the label"))
    if record.chance is not None:
        accuracy.append(level(record.chance, "chance" if certain else ""))
    first_panel = Panel("by noise level", accuracy, 0.0, 1.0, ticks, shade)
    if not certain:
        return [first_panel]
    errors = [b.calibration_error for b in bins]
    temperatures = [line([b.temperature for b in bins], GREEN, ""), level(1.0, "")]
    highest = max(2.0, *(b.temperature for b in bins))
    return [
        first_panel,
        Panel("calibration error", [line(errors, AMBER, "")], 0.0, max(0.1, *errors), ticks, shade),
        Panel("temperature", temperatures, 0.0, highest, ticks, shade),
    ]


def _calibration(card: Card, reliability: Tensor) -> Panel:
    """How often it is right where it is so sure, over the suggested range."""
    count, confidence, right = reliability[_guided(card)].sum(0).unbind(1)
    seen = (count > 0).nonzero()[:, 0].tolist()
    places = [float(confidence[i] / count[i]) for i in seen]
    lines = [
        Line([0.0, 1.0], TEXT, "as sure", dashed=True),
        Line([float(right[i] / count[i]) for i in seen], AMBER, "right", places=places, dots=True),
    ]
    ticks = [(0.0, "0"), (0.5, "0.5"), (1.0, "1")]
    return Panel("right, by how sure it is", lines, 0.0, 1.0, ticks)


def _guided(card: Card) -> list[bool]:
    def middle(b: Bin) -> float:
        return (b.log_snr_low + b.log_snr_high) / 2

    suggestion = card.record.suggestion
    low, high = (suggestion and suggestion.log_snr_range) or (-np.inf, np.inf)
    return [low <= middle(b) <= high for b in card.record.bins]


def _draw_confusion(canvas: Canvas, confusion: Sequence[Sequence[int]], labels: Sequence[str], box: Box) -> None:
    """Rows are truth, columns answers; each row's shares add up to 1."""
    count = len(confusion)
    named = count <= MOST_NAMES
    names = [canvas.fitted(label, 78) for label in labels]
    margin = max(canvas.text_width(name) for name in names) + 8 if named else 12
    side = min(box.width - margin - 30, box.height - margin - 34)
    cell = side / count
    gap = min(1.0, cell / 8)
    left, top = box.right - 12 - side, box.top + 24
    canvas.text(left, box.top + 5, canvas.fitted("truth (row), answer (column), in percent", side))
    for i, row in enumerate(confusion):
        for j, value in enumerate(row):
            share = value / max(sum(row), 1)
            place = Box(left + j * cell, top + i * cell, cell, cell)
            canvas.fill(Box(*place[:2], cell - gap, cell - gap), mixed(BLUE, 0.04 + 0.96 * share))
            if count <= MOST_NUMBERS and round(100 * share):
                colour = (16, 18, 24) if share > 0.45 else TEXT
                canvas.text(place.left + cell / 2, place.top + cell / 2, f"{100 * share:.0f}", colour, anchor="mm")
        if named:
            canvas.text(left - 6, top + (i + 0.5) * cell, names[i], anchor="rm")
            canvas.upright(left + (i + 0.5) * cell, top + side + 6, names[i])


def _wrapped(text: str, width: float) -> list[str]:
    measure = Canvas(1, 1)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and measure.text_width(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _ticks(first: float, last: float) -> list[tuple[float, str]]:
    """Round log-SNRs by their places in a range, few enough to be read, and at its end what they are."""
    step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if (last - first) / s <= TICKS), 50)
    rounds = [step * i for i in range(math.ceil(first / step - 1e-9), math.floor(last / step + 1e-9) + 1)]
    places = [((value - first) / (last - first), nice(round(value, 1))) for value in rounds]
    return [(place, text) for place, text in places if place < 0.85] + [(1.0, "log-SNR")]
