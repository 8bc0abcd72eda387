"""The newest front end of ComfyUI that the package index has, beside the one that ComfyUI asks for."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from devtools import host

PACKAGE = "comfyui-frontend-package"
FOLDER = "GUIDANCE_KIT_FRONT_END"  # in the environment: the folder that ComfyUI serves in place of its own front end


def newest() -> Path:
    """The folder of its pages; what pip calls the newest is fetched once and kept in the cache, by version."""
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        if subprocess.run([*pip, "download", "--no-deps", "--dest", scratch, PACKAGE]).returncode:
            raise SystemExit(f"pip could not download {PACKAGE}; its own message is above.")
        (wheel,) = Path(scratch).glob("*.whl")
        kept = host.cache() / f"front-end-{wheel.name.split('-')[1]}"
        if not kept.is_dir():
            unpacked = Path(scratch, "unpacked")
            subprocess.run([*pip, "install", "--no-deps", "--target", unpacked, wheel], check=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            partial = kept.with_name(f"{kept.name}.{os.getpid()}")
            shutil.copytree(unpacked, partial)  # the cache may be on another disk
            partial.rename(kept)
    return kept / "comfyui_frontend_package" / "static"


def options() -> list[str]:
    """ComfyUI's options that serve the front end of FOLDER, where one is named."""
    folder = os.environ.get(FOLDER)
    return ["--front-end-root", folder] if folder else []
