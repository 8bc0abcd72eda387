"""Writes tests/host/golden/node_definitions.json, what saved workflows rely on: `python -m devtools.make_definitions`.

Refuses to write a change that breaks them, unless the version in pyproject.toml was raised as such a change asks for.
"""

import json
import re
import sys
from pathlib import Path

from devtools.definitions import breaks, may_break, reduced
from devtools.host import ROOT
from devtools.server import ComfyServer
from guidance_core.writing import write_whole

GOLDEN = ROOT / "tests" / "host" / "golden" / "node_definitions.json"


def pack_version() -> str:
    """The version in pyproject.toml."""
    return re.search(r'(?m)^version = "([\d.]+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]


def golden() -> dict:
    """The definitions as last written, with the version that they were written for."""
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def refusal(old: dict, new: dict, version: str) -> list[str]:
    """What new definitions would break of golden ones, unless the version may break it."""
    return [] if may_break(old["version"], version) else breaks(old["nodes"], new)


def write_json(file: Path, content: dict) -> None:
    """Write a dictionary, whole or not at all."""
    write_whole(file, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def main() -> int:
    """Compare with the last definitions, and write the new ones or say what they would break."""
    with ComfyServer() as server:
        new, version = reduced(server.object_info()), pack_version()
    if GOLDEN.is_file() and (broken := refusal(golden(), new, version)):
        print("\n".join(broken))
        print(f"Nothing written: version {version} may not break workflows that {golden()['version']} saved.")
        return 1
    write_json(GOLDEN, {"version": version, "nodes": new})
    print(f"Wrote {len(new)} nodes for version {version}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
