"""What nodes draw and say."""

import importlib

from ...guidance_core.rooms import as_attribute


def __getattr__(name: str) -> object:
    """A module of this room, imported now."""
    with as_attribute(__name__, name):
        return importlib.import_module(f".{name}", __name__)
