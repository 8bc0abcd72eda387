"""ComfyUI nodes: thin conversions around guidance_core. adapter.py is the only reader of ComfyUI's hook dictionaries."""
