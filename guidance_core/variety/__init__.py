"""Noise in the condition, for pictures that differ more from one another: one kind a file."""

import importlib
import inspect
import pkgutil
from functools import cache

from .base import Variety, Vary

__all__ = ["Variety", "Vary", "varieties"]


@cache
def _discovered() -> dict[str, type[Variety]]:
    found = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        members = vars(importlib.import_module(f".{module.name}", __name__)).values()
        classes = (m for m in members if inspect.isclass(m) and issubclass(m, Variety) and not inspect.isabstract(m))
        found.update({cls.name: cls for cls in classes})
    return found


def varieties() -> dict[str, type[Variety]]:
    """Every kind of variety by name."""
    return dict(_discovered())
