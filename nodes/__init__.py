"""ComfyUI nodes, one file each: thin conversions around guidance_core; host/ speaks to sampling, ui/ to the user."""
