"""What speaks to ComfyUI's sampling, models and folders."""
