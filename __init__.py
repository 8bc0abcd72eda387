"""Guidance Kit for ComfyUI: the pack's entry point. ComfyUI is imported inside it only, never with this module."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Called by ComfyUI; returns the pack's nodes."""
    from .nodes.extension import GuidanceKit

    return GuidanceKit()
