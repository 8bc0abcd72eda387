"""The pack under test, as ComfyUI has loaded it."""

import sys


def kit(module: str):
    """A module of the pack under test."""
    return next(found for name, found in sys.modules.items() if name.endswith(f"ComfyUI-GuidanceKit.{module}"))
