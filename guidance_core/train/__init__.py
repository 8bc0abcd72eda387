"""Training a noise-aware classifier: settings, data, state, and one flat loop."""

import importlib
from typing import TYPE_CHECKING

from ..rooms import as_attribute

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """A module of this room, imported now."""
        with as_attribute(__name__, name):
            return importlib.import_module(f".{name}", __name__)
