"""Where training examples come from: pictures on disk, latents in memory, in a cache or in shards."""

import importlib
from typing import TYPE_CHECKING

from ..rooms import as_attribute

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """A module of this room, imported now."""
        with as_attribute(__name__, name):
            return importlib.import_module(f".{name}", __name__)
