"""Classifier-free guidance: one published method a file, found by discovery; pipeline.py runs them.

Each method's class is here by its name too: `cfg.Apg(eta=0.2)`.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from functools import cache
from typing import Any

from ..errors import GuidanceError, shortened
from ..params import check_known, make
from .base import Decision, Method, Phase, Prediction, ScaleEvent
from .pipeline import Passes, Pipeline, PipelineRun

__all__ = [
    "Decision",
    "Method",
    "Passes",
    "Phase",
    "Pipeline",
    "PipelineRun",
    "Prediction",
    "ScaleEvent",
    "cfg_method",
    "cfg_methods",
    "methods_of",
]


@cache
def _discovered() -> dict[str, type[Method]]:
    found = []
    for module in pkgutil.iter_modules(__path__):
        members = vars(importlib.import_module(f".{module.name}", __name__)).values()
        found += [m for m in members if inspect.isclass(m) and issubclass(m, Method) and not inspect.isabstract(m)]
    return {cls.name: cls for cls in sorted(found, key=lambda cls: (not cls.plain, cls.name))}


def __getattr__(name: str) -> Any:
    """The class of a method, by the class's name."""
    for cls in () if name.startswith("_") else _discovered().values():
        if cls.__name__ == name:
            return cls
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *(cls.__name__ for cls in _discovered().values())])


def cfg_methods() -> dict[str, type[Method]]:
    """Every CFG method by name, `standard` first."""
    return dict(_discovered())


def cfg_method(name: str) -> type[Method]:
    """The method of that name. Raises GuidanceError with the known names."""
    check_known("CFG method", name, _discovered())
    return _discovered()[name]


def methods_of(method: str | Method | Sequence[str | Method], params: dict[str, Any]) -> tuple[Method, ...]:
    """The methods that a call asks for: a name, with the method's params; a Method; or several of these.

    Raises GuidanceError for what is none of these, for unknown names, and for params beside anything but one name.
    """
    if isinstance(method, str):
        return (make(cfg_method(method), method, params),)
    if params:
        raise GuidanceError(
            f"{shortened(', '.join(params))}: parameters by name go with one method by name; give a Method its own "
            f"where it is made, as in cfg.Apg(eta=0.2)."
        )
    if isinstance(method, Method):
        return (method,)
    if not isinstance(method, Sequence):
        name = (
            f"the class {method.__name__}: write {method.__name__}()"
            if inspect.isclass(method)
            else shortened(repr(method))
        )
        raise GuidanceError(f"method must be the name of a CFG method, a Method, or several of them, got {name}.")
    return tuple(each for one in method for each in methods_of(one, {}))
