"""What a model is inside, by its class in ComfyUI: its blocks, and the host's own hooks into them.

Each hook is put into a copy of model_options, so that the model itself stays as it is.
"""

import importlib

from ....guidance_core.rooms import as_attribute
from .around import instead_of_a_pass
from .base import Architecture, Attend, Attention, Block, Enter, Options

__all__ = ["Architecture", "Attend", "Attention", "Block", "Enter", "Options", "instead_of_a_pass"]


def __getattr__(name: str) -> object:
    """A module of this room, imported now."""
    with as_attribute(__name__, name):
        return importlib.import_module(f".{name}", __name__)
