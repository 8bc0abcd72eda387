"""What a classifier's logits mean: one head a file, found by discovery; base.py says what a head is."""

import importlib
import inspect
import pkgutil
from functools import cache

from ...errors import GuidanceError
from .base import Head, Measured
from .label_format import COLUMNS, INDICES, LabelFormat

__all__ = ["COLUMNS", "INDICES", "Head", "LabelFormat", "Measured", "as_head", "heads"]


@cache
def _discovered() -> dict[str, Head]:
    found = []
    for module in pkgutil.iter_modules(__path__):
        members = vars(importlib.import_module(f".{module.name}", __name__)).values()
        classes = (m for m in members if inspect.isclass(m) and issubclass(m, Head) and not inspect.isabstract(m))
        found += [cls() for cls in classes]
    return {head.name: head for head in sorted(found, key=lambda head: (head.rank, head.name))}


def heads() -> dict[str, Head]:
    """Every head by the name that files and arguments have for it."""
    return dict(_discovered())


def as_head(head: str | Head) -> Head:
    """A head as given, or the one of that name. Raises GuidanceError with the known names."""
    if isinstance(head, Head):
        return head
    if head not in _discovered():
        raise GuidanceError(f"There is no classifier head '{head}'; choose one of {', '.join(_discovered())}.")
    return _discovered()[head]
