"""ComfyUI nodes: thin conversions around guidance_core. adapter.py runs guidance inside its sampling."""
