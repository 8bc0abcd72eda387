"""The kinds of values that only a card has: labels, parameters of networks, measurements, a small picture."""

import base64
import binascii
import math
import re
from typing import Any

from .heads import as_head, heads
from .measurements import MAX_CONFUSION, Bin
from .names import composed, label_fault
from .values import (
    MAX_ENTRIES,
    MAX_LOG_SNR,
    NAME,
    TEMPERATURE,
    Kind,
    listed,
    number,
    one_of,
    record_of,
    require,
    rising,
    table,
    text,
)

MAX_LABELS = 65536
MAX_SIZE = 65536  # of any one parameter of a network
PRIOR_SLACK = 1e-6  # by which a prior's numbers may miss 1 together
MAX_LEVELS = 16  # of a list among the parameters
MAX_DEPTH = 32
MAX_PREVIEW = 64 * 1024  # bytes
MAX_PREVIEW_SIDE = 512  # pixels: a few bytes can unpack to a huge picture

_PNG = re.compile(rb"\x89PNG\r\n\x1a\n....IHDR(....)(....)", re.DOTALL)


def _labels(value: Any) -> list[str]:
    labels = [composed(label) for label in listed(NAME, MAX_LABELS, "names", least=1).check(value)]
    if fault := label_fault(labels):
        raise ValueError(fault)
    return labels


def _plain(value: Any) -> str | float | int | bool:
    if isinstance(value, bool):
        return value
    return number(-1e18, 1e18).check(value) if isinstance(value, int | float) else text().check(value)


def _parameter(value: Any) -> Any:
    size = number(1e-3, MAX_SIZE)
    if isinstance(value, list):
        return list(listed(size, MAX_LEVELS, "numbers").check(value))
    return NAME.check(value) if isinstance(value, str) else size.check(value)


def _parameters(value: Any) -> dict[str, Any]:
    parameters = table(Kind(_parameter)).check(value)
    if isinstance(parameters.get("depth"), int):
        number(0, MAX_DEPTH).check(parameters["depth"])
    return parameters


def _bins(value: Any) -> tuple[Bin, ...]:
    bins = listed(record_of(Bin), MAX_ENTRIES, "bins").check(value)
    for each in bins:
        rising([each.log_snr_low, each.log_snr_high])
    rising([each.log_snr_low for each in bins])
    return bins


def _knots(value: Any) -> tuple[tuple[float, float], ...]:
    knots = listed(Kind(_knot), MAX_ENTRIES, "temperatures").check(value)
    rising([place for place, _ in knots])
    return knots


def _knot(value: Any) -> tuple[float, float]:
    place, temperature = listed(Kind(lambda entry: entry), 2, "numbers", least=2).check(value)
    return number(-MAX_LOG_SNR, MAX_LOG_SNR).check(place), TEMPERATURE.check(temperature)


def _prior(value: Any) -> tuple[float, ...]:
    shares = listed(number(1e-12, 1.0), MAX_LABELS, "probabilities").check(value)
    require(not shares or abs(math.fsum(shares) - 1) < PRIOR_SLACK, "probabilities that add up to 1")
    return shares


def _confusion(value: Any) -> tuple[tuple[int, ...], ...]:
    rows = listed(Kind(_counts), MAX_CONFUSION, "rows", least=1).check(value)
    require(all(len(row) == len(rows) for row in rows), "a square of counts")
    return rows


def _counts(value: Any) -> tuple[int, ...]:
    counts = listed(Kind(lambda entry: entry), MAX_CONFUSION, "counts").check(value)
    require(all(type(count) is int and 0 <= count < 2**53 for count in counts), "a square of counts")
    return counts


def _png(value: Any) -> bytes:
    require(isinstance(value, str) and len(value) <= 2 * MAX_PREVIEW, f"a picture of at most {MAX_PREVIEW} bytes")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("is not base64") from error
    start = _PNG.match(data)
    if start is None or len(data) > MAX_PREVIEW:
        raise ValueError(f"must be a PNG of at most {MAX_PREVIEW} bytes")
    sides = [int.from_bytes(side, "big") for side in start.groups()]
    require(max(sides) <= MAX_PREVIEW_SIDE, f"a picture of at most {MAX_PREVIEW_SIDE} pixels a side")
    return data


LABELS = Kind(_labels, lambda labels: [composed(label) for label in labels])
PARAMETERS = Kind(_parameters)
PLAIN = Kind(_plain)
BINS = Kind(_bins, listed(record_of(Bin), MAX_ENTRIES, "bins").plain)
KNOTS = Kind(_knots)
PRIOR = Kind(_prior)
CONFUSION = Kind(_confusion)
PNG = Kind(_png, lambda data: base64.b64encode(data).decode(), as_text=True)
HEAD = Kind(lambda value: as_head(one_of(tuple(heads())).check(value)), str, as_text=True)
