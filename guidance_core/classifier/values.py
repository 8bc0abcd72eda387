"""How the values of a card stand in a file: each kind reads them within limits, and writes them as they were."""

import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, field, fields
from typing import Any

from ..frozen import frozen
from .names import HIDDEN, LINES

MAX_TEXT = 100_000
MAX_ENTRIES = 256  # of a table or a list of measurements
MAX_LOG_SNR = 100.0


@frozen
class Kind:
    """One kind of value.

    check: what JSON holds -> the value; raises ValueError with what it must be. plain: the value -> what JSON holds.
    as_text: whether it stands in the file as text, without JSON's quotes.
    """

    check: Callable[[Any], Any]
    plain: Callable[[Any], Any] = lambda value: value
    as_text: bool = False

    def read(self, written: str) -> Any:
        """The value in a file's metadata. Raises ValueError."""
        return self.check(written if self.as_text else parsed(written))

    def write(self, value: Any) -> str:
        """The value for a file's metadata."""
        plain = self.plain(value)
        return plain if self.as_text else json.dumps(plain, ensure_ascii=False)


@frozen
class Declared:
    """What is declared beside a field: its kind; whether a file must have it; whether it is written even where it is
    the default; and what it is where an older file does not say it (the default, unless given)."""

    kind: Kind
    required: bool = False
    always: bool = False
    unsaid: Any = None


def declared(kind: Kind, default: Any = MISSING, *, factory: Any = MISSING, **more: Any) -> Any:
    """A dataclass field that stands in a file. more: the fields of Declared."""
    return field(default=default, default_factory=factory, metadata={"declared": Declared(kind, **more)})


def declarations(cls: type) -> dict[str, Declared]:
    """The declared fields of a dataclass, by name, in order."""
    return {f.name: f.metadata["declared"] for f in fields(cls) if "declared" in f.metadata}


def parsed(written: str) -> Any:
    """What JSON says. Raises ValueError, for NaN and infinities too."""

    def refuse(constant: str) -> None:
        raise ValueError(f"holds {constant}")

    try:
        return json.loads(written, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ValueError("is not JSON") from error


def require(condition: bool, what: str) -> None:
    """Raise ValueError, saying what a value must be."""
    if not condition:
        raise ValueError(f"must be {what}")


def text(most: int = MAX_TEXT, lines: bool = True) -> Kind:
    """Text in which every character can be seen. lines: whether it may have several."""

    def check(value: Any) -> str:
        shown = isinstance(value, str) and not HIDDEN.search(value) and (lines or not LINES.search(value))
        require(
            shown and len(value) <= most,
            f"text of at most {most} characters, none of them a control character or one that cannot be seen",
        )
        return value

    return Kind(check, as_text=True)


def number(low: float, high: float) -> Kind:
    """A real number within limits."""

    def check(value: Any) -> float:
        require(
            isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high,
            f"a number from {low:g} to {high:g}",
        )
        return value

    return Kind(check)


def one_of(options: Sequence[str]) -> Kind:
    """One of some texts."""

    def check(value: Any) -> str:
        require(value in options, f"one of {', '.join(option or 'nothing' for option in options)}")
        return value

    return Kind(check, as_text=True)


def optional(kind: Kind) -> Kind:
    """A value, or null."""
    return Kind(
        lambda value: None if value is None else kind.check(value),
        lambda value: None if value is None else kind.plain(value),
    )


def listed(kind: Kind, most: int, what: str, least: int = 0) -> Kind:
    """A list of values; `what`: they are called."""

    def check(value: Any) -> tuple:
        require(isinstance(value, list) and least <= len(value) <= most, f"a list of {least} to {most} {what}")
        return tuple(kind.check(entry) for entry in value)

    return Kind(check, lambda values: [kind.plain(value) for value in values])


def table(kind: Kind) -> Kind:
    """Values by name."""

    def check(value: Any) -> dict:
        require(isinstance(value, dict) and len(value) <= MAX_ENTRIES, f"a table of at most {MAX_ENTRIES} entries")
        return {NAME.check(key): kind.check(entry) for key, entry in value.items()}

    return Kind(check, lambda values: {key: kind.plain(value) for key, value in values.items()})


def record_of(cls: type) -> Kind:
    """A dataclass whose fields are all declared, as a table."""

    def check(value: Any) -> Any:
        require(isinstance(value, dict), "a table")
        return cls(**{name: each.kind.check(value.get(name)) for name, each in declarations(cls).items()})

    def plain(value: Any) -> dict:
        return {name: each.kind.plain(getattr(value, name)) for name, each in declarations(cls).items()}

    return Kind(check, plain)


def rising(places: Sequence[float]) -> None:
    """Raise ValueError unless noise levels come in order."""
    require(all(a < b for a, b in zip(places, places[1:], strict=False)), "in the order of rising log-SNR")


def _range(value: Any) -> tuple[float, float]:
    low, high = _PAIR.check(value)
    require(low < high, f"a range that rises, not log-SNR {low:g} to {high:g}")
    return low, high


NAME = text(200, lines=False)
LOG_SNR = Kind(lambda value: float(number(-MAX_LOG_SNR, MAX_LOG_SNR).check(value)))
_PAIR = listed(LOG_SNR, 2, "log-SNRs", least=2)
LOG_SNR_RANGE = Kind(_range, list)
TEMPERATURE = number(0.01, 100)
