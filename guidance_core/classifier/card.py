"""The card of a noisy classifier: everything its file says about it, typed, and checked field by field when read."""

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from ..assess.metrics import MAX_CONFUSION, Bin
from ..assess.recommend import Suggestion
from ..errors import GuidanceError
from ..paths import FLOW, VE, VP
from .heads import Head, as_head, heads
from .temperature import Knots

FORMAT = "guidance-kit.noisy-classifier"
VERSION = 2
CREATED_WITH = "Guidance Kit 0.1.0"

MAX_LABELS = 65536
MAX_TEXT = 100_000
MAX_ENTRIES = 256  # of a table or a list of measurements
MAX_SIZE = 65536  # of any one parameter of a network
MAX_LEVELS = 16  # of a list among the parameters
MAX_DEPTH = 32
MAX_LOG_SNR = 100.0
MAX_PREVIEW = 64 * 1024  # bytes
MAX_PREVIEW_SIDE = 512  # pixels: a few bytes can unpack to a huge picture

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
LINES = re.compile(r"[\t\n]")
PNG = re.compile(rb"\x89PNG\r\n\x1a\n....IHDR(....)(....)", re.DOTALL)


@dataclass(frozen=True)
class Record:
    """How a classifier was made, how it measured, and whose it is. Only `temperatures` change what it answers.

    path: the name of the path of the models it was made for ("VE", "VP" or "flow", "" for any); its own input is always
    in the VP frame. latent_scale, latent_shift: what turns raw VAE output into the latents it was trained on,
    (raw - shift) * scale. data_hash: of the training data. training: settings by name. bins, chance, chance_loss: see
    Evaluation. confusion: counts over the suggested range, rows truth, columns answers. temperatures: (log-SNR, what
    divides the logits there). preview: a small PNG.
    """

    path: str = ""
    latent_scale: float | None = None
    latent_shift: float | None = None
    data_hash: str = ""
    training: dict[str, str | float | int | bool] = field(default_factory=dict)
    bins: tuple[Bin, ...] = ()
    chance: float | None = None
    chance_loss: float | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None
    temperatures: Knots = ()
    suggestion: Suggestion | None = None
    licence: str = ""
    author: str = ""
    preview: bytes = b""
    created_with: str = CREATED_WITH


@dataclass(frozen=True)
class Card:
    """Everything a file says of its classifier; the fields but `record` are those of NoisyClassifier."""

    labels: list[str]
    latent_space: str
    log_snr_range: tuple[float, float]
    architecture: str
    parameters: dict[str, Any]
    info: dict[str, str]
    head: Head
    record: Record


def to_metadata(card: Card) -> dict[str, str]:
    """The card as the metadata of a safetensors file; what says nothing is left out."""
    said = {f.name: getattr(card, f.name) for f in fields(Card) if f.name != "record"}
    said |= {f.name: getattr(card.record, f.name) for f in fields(Record)}
    empty = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(Record)}
    del empty["created_with"]
    metadata = {"format": FORMAT, "version": str(VERSION)}
    for key, value in said.items():
        if key not in empty or value != empty[key]:
            metadata[key] = _written(value)
    return metadata


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Head):
        return value.name
    if isinstance(value, Suggestion):
        value = asdict(value)
    elif isinstance(value, list | tuple):
        value = [asdict(entry) if isinstance(entry, Bin) else entry for entry in value]
    return json.dumps(value, ensure_ascii=False)


def from_metadata(metadata: dict[str, str], name: str) -> Card:
    """The card in a file's metadata, of this version or the one before; keys it does not know are ignored.

    name: of the file. Raises GuidanceError for a newer version, and naming the key for what is missing or wrong.
    """
    version = metadata.get("version", "none")
    if version not in ("1", str(VERSION)):
        raise GuidanceError(
            f"'{name}' has format version {version[:20]}, this Guidance Kit reads versions 1 to {VERSION}: update it."
        )
    metadata = {"latent_space": "", "info": "{}", "head": "single", "created_with": ""} | metadata

    def read(key: str, reader: Callable[[str], Any]) -> Any:
        try:
            if key not in metadata:
                raise ValueError("is missing")
            return reader(metadata[key])
        except (ValueError, RecursionError) as error:
            why = "is nested too deeply" if isinstance(error, RecursionError) else error
            raise GuidanceError(f"'{name}' has a wrong description: '{key}' {why}.") from error

    said = {key: read(key, reader) for key, reader in _CARD.items()}
    record = Record(**{key: read(key, reader) for key, reader in _RECORD.items() if key in metadata})
    classes = said["parameters"].get("classes")
    for key, count in (("classes", classes), ("rows of confusion", record.confusion and len(record.confusion))):
        if count not in (None, len(said["labels"])):
            raise GuidanceError(f"'{name}' has a wrong description: {len(said['labels'])} labels for {count} {key}.")
    return Card(**said, record=record)


def _parsed(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"holds {constant}")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ValueError("is not JSON") from error


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"must be {what}")


def _text(text: Any, most: int = MAX_TEXT, lines: bool = True) -> str:
    _require(
        isinstance(text, str) and len(text) <= most and not CONTROL.search(text) and (lines or not LINES.search(text)),
        f"text of at most {most} characters, none of them a control character",
    )
    return text


def _name(text: Any) -> str:
    return _text(text, 200, lines=False)


def _number(value: Any, low: float, high: float) -> float:
    _require(
        isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high,
        f"a number from {low:g} to {high:g}",
    )
    return value


def _list(value: Any, most: int, what: str, least: int = 0) -> list:
    _require(isinstance(value, list) and least <= len(value) <= most, f"a list of {least} to {most} {what}")
    return value


def _table(value: Any, entry: Callable[[Any], Any]) -> dict:
    _require(isinstance(value, dict) and len(value) <= MAX_ENTRIES, f"a table of at most {MAX_ENTRIES} entries")
    return {_name(key): entry(item) for key, item in value.items()}


def _labels(text: str) -> list[str]:
    return [_name(label) for label in _list(_parsed(text), MAX_LABELS, "names", least=1)]


def _range(value: Any) -> tuple[float, float]:
    low, high = (float(_number(end, -MAX_LOG_SNR, MAX_LOG_SNR)) for end in _list(value, 2, "log-SNRs", least=2))
    _require(low < high, f"a range that rises, not log-SNR {low:g} to {high:g}")
    return low, high


def _plain(value: Any) -> str | float | int | bool:
    if isinstance(value, bool):
        return value
    return _number(value, -1e18, 1e18) if isinstance(value, int | float) else _text(value)


def _parameters(text: str) -> dict:
    def parameter(value: Any) -> Any:
        if isinstance(value, list):
            return [_number(entry, 1e-3, MAX_SIZE) for entry in _list(value, MAX_LEVELS, "numbers")]
        return _name(value) if isinstance(value, str) else _number(value, 1e-3, MAX_SIZE)

    parameters = _table(_parsed(text), parameter)
    if isinstance(parameters.get("depth"), int):
        _number(parameters["depth"], 0, MAX_DEPTH)
    return parameters


def _bin(value: Any) -> Bin:
    _require(isinstance(value, dict), "a list of tables")
    low, high = _range([value.get("log_snr_low"), value.get("log_snr_high")])
    accuracy, loss = _number(value.get("accuracy"), -1e9, 1), _number(value.get("loss"), 0, 1e9)
    error = _number(value.get("calibration_error"), 0, 1)
    return Bin(low, high, accuracy, error, loss, _temperature(value.get("temperature")))


def _temperature(value: Any) -> float:
    return _number(value, 0.01, 100)


def _bins(text: str) -> tuple[Bin, ...]:
    bins = tuple(_bin(value) for value in _list(_parsed(text), MAX_ENTRIES, "bins"))
    _rising([b.log_snr_low for b in bins])
    return bins


def _rising(places: list[float]) -> None:
    _require(all(a < b for a, b in zip(places, places[1:], strict=False)), "in the order of rising log-SNR")


def _knots(text: str) -> Knots:
    pairs = [_list(pair, 2, "numbers", least=2) for pair in _list(_parsed(text), MAX_ENTRIES, "temperatures")]
    knots = tuple((_number(place, -MAX_LOG_SNR, MAX_LOG_SNR), _temperature(value)) for place, value in pairs)
    _rising([place for place, _ in knots])
    return knots


def _confusion(text: str) -> tuple[tuple[int, ...], ...]:
    rows = _list(_parsed(text), MAX_CONFUSION, "rows", least=1)
    for row in rows:
        for count in _list(row, len(rows), "counts", least=len(rows)):
            _require(type(count) is int and 0 <= count < 2**53, "a square of counts")
    return tuple(tuple(row) for row in rows)


def _suggestion(text: str) -> Suggestion:
    value = _parsed(text)
    _require(isinstance(value, dict), "a table")
    ends = value.get("log_snr_range")
    scale, reason = _number(value.get("scale"), 0, 100), _text(value.get("reason"), 2000)
    return Suggestion(scale, None if ends is None else _range(ends), reason)


def _preview(text: str) -> bytes:
    _require(len(text) <= 2 * MAX_PREVIEW, f"a picture of at most {MAX_PREVIEW} bytes")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("is not base64") from error
    start = PNG.match(data)
    _require(start is not None and len(data) <= MAX_PREVIEW, f"a PNG of at most {MAX_PREVIEW} bytes")
    sides = [int.from_bytes(side, "big") for side in start.groups()]
    _require(max(sides) <= MAX_PREVIEW_SIDE, f"a picture of at most {MAX_PREVIEW_SIDE} pixels a side")
    return data


def _one_of(*options: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        _require(text in options, f"one of {', '.join(option or 'nothing' for option in options)}")
        return text

    return read


def _finite(low: float, high: float) -> Callable[[str], float]:
    return lambda text: _number(_parsed(text), low, high)


_CARD: dict[str, Callable[[str], Any]] = {
    "labels": _labels,
    "latent_space": _name,
    "log_snr_range": lambda text: _range(_parsed(text)),
    "architecture": _name,
    "parameters": _parameters,
    "info": lambda text: _table(_parsed(text), _text),
    "head": lambda text: as_head(_one_of(*heads())(text)),
}
_RECORD: dict[str, Callable[[str], Any]] = {
    "path": _one_of("", VE.name, VP.name, FLOW.name),
    "latent_scale": _finite(-1e6, 1e6),
    "latent_shift": _finite(-1e6, 1e6),
    "data_hash": _name,
    "training": lambda text: _table(_parsed(text), _plain),
    "bins": _bins,
    "chance": _finite(0, 1),
    "chance_loss": _finite(0, 1e9),
    "confusion": _confusion,
    "temperatures": _knots,
    "suggestion": _suggestion,
    "licence": _text,
    "author": _name,
    "preview": _preview,
    "created_with": _name,
}
