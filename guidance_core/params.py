"""Parameters declared once: default, range, step, unit and plain words; widgets, checks and tables derive from here."""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from functools import cache
from numbers import Real
from typing import Any

from .errors import GuidanceError, shortened
from .frozen import frozen


@frozen
class Param:
    """What is known of one parameter.

    kind is float, int, bool, str, tuple (a choice among `options`) or object (something to connect, named by `socket`).
    """

    kind: type
    default: Any
    doc: str
    low: float = -math.inf
    high: float = math.inf
    step: float = 0.01
    unit: str = ""
    options: tuple[str, ...] = ()
    advanced: bool = False
    socket: str = ""
    needed: bool = False  # whether a node refuses to go on while nothing is connected

    def check(self, name: str, value: Any) -> None:
        """Raise GuidanceError unless value is allowed, naming the parameter, the value and what is allowed."""
        if self.kind is tuple:
            if value not in self.options:
                raise GuidanceError(f"{name} must be one of {', '.join(self.options)}, got {shortened(repr(value))}.")
        elif self.kind in (float, int):
            if not is_number(value):
                raise GuidanceError(f"{name} must be a number, got {shortened(repr(value))}.")
            if not (math.isfinite(value) and self.low <= value <= self.high):
                raise GuidanceError(f"{name} must be in [{self.low:g}, {self.high:g}], got {shortened(str(value))}.")
            if self.kind is int and value != int(value):
                raise GuidanceError(f"{name} must be a whole number, got {shortened(str(value))}.")
        elif self.kind is not object and not isinstance(value, self.kind):
            raise GuidanceError(
                f"{name} must be {'text' if self.kind is str else 'true or false'}, got {shortened(repr(value))}."
            )


def check_known(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise GuidanceError unless the name is known, with the names that are and the one that may have been meant."""
    names = list(known)
    if name in names:
        return
    raise GuidanceError(
        f"There is no {kind} '{shortened(str(name))}'; choose one of {', '.join(names)}.{meant(name, names)}"
    )


def meant(name: object, known: Iterable[str]) -> str:
    """The known name that is nearest, as a question that ends a sentence; "" where none is near."""
    near = difflib.get_close_matches(str(name)[:100], list(known), 1)
    return f" Did you mean '{near[0]}'?" if near else ""


def is_number(value: Any) -> bool:
    """Whether value is one real number, of Python or numpy, that fits into a float; True and False are not."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _field(param: Param) -> Any:
    return dataclasses.field(default=param.default, metadata={"param": param})


def number(
    default: float, low: float, high: float, step: float, doc: str, *, unit: str = "", advanced: bool = False
) -> Any:
    """A dataclass field for a real number in [low, high]."""
    return _field(Param(float, default, doc, low, high, step, unit, advanced=advanced))


def integer(default: int, low: int, high: int, doc: str, *, unit: str = "", advanced: bool = False) -> Any:
    """A dataclass field for a whole number in [low, high]."""
    return _field(Param(int, default, doc, low, high, 1, unit, advanced=advanced))


def flag(default: bool, doc: str, *, advanced: bool = False) -> Any:
    """A dataclass field that is on or off."""
    return _field(Param(bool, default, doc, advanced=advanced))


def choice(default: str, options: tuple[str, ...], doc: str, *, advanced: bool = False) -> Any:
    """A dataclass field with one of the named values."""
    return _field(Param(tuple, default, doc, options=options, advanced=advanced))


def text(default: str, doc: str, *, advanced: bool = False) -> Any:
    """A dataclass field that the user writes as text; the dataclass checks its grammar itself."""
    return _field(Param(str, default, doc, advanced=advanced))


def socket(kind: str, doc: str, *, needed: bool = False) -> Any:
    """A dataclass field for something to connect, None when nothing is: a model, condition, mask or classifier."""
    return _field(Param(object, None, doc, socket=kind, needed=needed))


@cache
def params_of(cls: type) -> Mapping[str, Param]:
    """The declared parameters of a dataclass, by name, in order: the same mapping for all who ask."""
    return {f.name: f.metadata["param"] for f in dataclasses.fields(cls) if "param" in f.metadata}


class Checked:
    """Base of dataclasses whose declared parameters are checked when an instance is made."""

    def __post_init__(self) -> None:
        cls: type = type(self)
        for name, param in params_of(cls).items():
            param.check(name, getattr(self, name))


def from_text(name: str, param: Param, written: str) -> Any:
    """The value that a text means for a parameter, unchecked. Raises GuidanceError for what cannot be written."""
    if param.kind in (float, int):
        try:
            return float(written)
        except ValueError:
            return written  # which is refused by name
    if param.kind is bool:
        return {"true": True, "false": False}.get(written.lower(), written)
    if param.kind is object:
        raise GuidanceError(f"{name} is a {param.socket} to connect, which cannot be written as text.")
    return written


def make(cls: type, kind: str, values: dict[str, Any]) -> Any:
    """An instance of a checked dataclass from values by name; an unknown name is refused with the known ones."""
    known = params_of(cls)
    for name in values:
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes no parameters"
            raise GuidanceError(
                f"{shortened(kind)} has no parameter '{shortened(name)}': it {takes}.{meant(name, known)}"
            )
    return cls(**values)
