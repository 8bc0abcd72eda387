"""Starts a ComfyUI that has this pack and keeps it running until Ctrl-C."""

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from devtools.host import PACK_NAME, ROOT
from devtools.server import ComfyServer, ServerFailed

BASE = ROOT / "output" / "serve"
EXAMPLES = (
    f"Its examples: Templates (in the bar at the left), then {PACK_NAME}, the last entry of that window's left column, "
    "under EXTENSIONS."
)


def main() -> int:
    """Serve from a base directory that stays, with the models of the user's own ComfyUI where there is one."""
    parser = argparse.ArgumentParser(prog="dev.py serve", description=__doc__)
    parser.add_argument("--port", type=int, default=8188, help="default: %(default)s; 0 takes a free one")
    asked, options = parser.parse_known_args()
    if own := os.environ.get("COMFYUI_PATH"):
        options += ["--models-directory", str(Path(own, "models").resolve())]
    try:
        with ComfyServer(BASE, options=options, cpu=not torch.accelerator.is_available(), port=asked.port) as server:
            print(f"ComfyUI with Guidance Kit runs at {server.url} - files are in {BASE} - Ctrl-C stops it.")
            print(EXAMPLES, flush=True)
            follow(server)
    except KeyboardInterrupt:
        return 0
    except ServerFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    print("ComfyUI has stopped by itself.", file=sys.stderr)
    return 1


def follow(server: ComfyServer) -> None:
    """Repeat what the server logs until it ends."""
    with server.log_file.open(encoding="utf-8", errors="replace") as log:
        log.seek(0, os.SEEK_END)
        while server.running():
            print(log.read(), end="", flush=True)
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
