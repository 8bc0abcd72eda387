"""What is added to a guided prediction: what to steer to, its gradient, and the terms, one kind a file."""

import importlib
import inspect
import pkgutil
from functools import cache

from .base import Guidance, Term, TermEvent

__all__ = ["Guidance", "Term", "TermEvent", "terms"]


@cache
def _discovered() -> dict[str, type[Term]]:
    found = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        members = vars(importlib.import_module(f".{module.name}", __name__)).values()
        classes = (m for m in members if inspect.isclass(m) and issubclass(m, Term) and not inspect.isabstract(m))
        found.update({cls.name: cls for cls in classes})
    return found


def terms() -> dict[str, type[Term]]:
    """Every term by name."""
    return dict(_discovered())
