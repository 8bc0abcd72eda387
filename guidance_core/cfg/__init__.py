"""Classifier-free guidance: one published method a file, found by discovery; base.py holds the pipeline."""

import importlib
import inspect
import pkgutil
from functools import cache

from ..errors import GuidanceError
from .base import Method, Passes, Phase, Pipeline, PipelineRun, Prediction, ScaleEvent

__all__ = [
    "Method",
    "Passes",
    "Phase",
    "Pipeline",
    "PipelineRun",
    "Prediction",
    "ScaleEvent",
    "cfg_method",
    "cfg_methods",
]


@cache
def _discovered() -> dict[str, type[Method]]:
    found = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: (module.name != "standard", module.name)):
        members = vars(importlib.import_module(f".{module.name}", __name__)).values()
        classes = (m for m in members if inspect.isclass(m) and issubclass(m, Method) and not inspect.isabstract(m))
        found.update({cls.name: cls for cls in classes})
    return found


def cfg_methods() -> dict[str, type[Method]]:
    """Every CFG method by name, `standard` first."""
    return dict(_discovered())


def cfg_method(name: str) -> type[Method]:
    """The method of that name. Raises GuidanceError with the known names."""
    if name not in _discovered():
        raise GuidanceError(f"There is no CFG method '{name}'; choose one of {', '.join(_discovered())}.")
    return _discovered()[name]
