"""ComfyUI nodes: thin conversions around guidance_core. adapter.py alone reads ComfyUI's hook dictionaries."""
