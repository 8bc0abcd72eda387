"""Guidance Kit for ComfyUI: the pack's entry point. ComfyUI is imported inside it only, so that tests can import the root."""


async def comfy_entrypoint():
    """Called by ComfyUI; returns the pack's nodes."""
    from .nodes.extension import GuidanceKit

    return GuidanceKit()
