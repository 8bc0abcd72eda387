"""What the pack adds to ComfyUI's start: time, and modules that ComfyUI had not loaded itself."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from devtools.host import ROOT

from .measure import Row, Spread, Target

TITLE = "Start of ComfyUI"
INTRO = (
    "Fresh processes with ComfyUI's server and own nodes imported; then our entry point, its list of nodes and the "
    "schema of every node, as ComfyUI asks for them."
)
CHILD = """
import asyncio, json, sys, time
from benchmarks import host
host.prepare(sys.argv[1])
import server, execution, nodes
server.PromptServer(asyncio.new_event_loop())
before = set(sys.modules)
began = time.perf_counter()
extension = asyncio.run(host.load_pack().comfy_entrypoint())
asyncio.run(extension.on_load())
for node in asyncio.run(extension.get_node_list()):
    node.GET_SCHEMA()
took = time.perf_counter() - began
new = sorted(name for name in set(sys.modules) - before if name.partition(".")[0] != host.PACK)
print(json.dumps([took, new]))
"""


def entries(quick: bool) -> Iterator[Row | str]:
    """Time over several starts, and what they import."""
    rounds = 2 if quick else 9
    starts = [_start() for _ in range(rounds + 1)][1:]  # the first one compiles
    times = Spread.of([took * 1e3 for took, _ in starts])
    yield Row("our import, node list and schemas", times, "ms", Target(high=150), f"{rounds} fresh processes")
    modules = starts[-1][1]
    listed = ", ".join(f"`{name}`" for name in modules) or "none"
    yield f"Modules that this loads beyond ComfyUI's and our own: {listed}."


def _start() -> tuple[float, list[str]]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # users' has none
    with tempfile.TemporaryDirectory() as base:
        done = subprocess.run([sys.executable, "-c", CHILD, base], cwd=ROOT, env=kept, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
