"""What the pack adds to ComfyUI's start: time, and modules that ComfyUI had not loaded itself."""

from collections.abc import Iterator

from devtools.host import ROOT

from .before import COMMIT, NOT_MEASURED, earlier, printed
from .measure import Row, Spread, Target, ratio

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
    """Time over several starts, in turn with an earlier state of the project, and what they import."""
    rounds = 2 if quick else 9
    with earlier() as before:
        starts = [(printed(CHILD, ROOT), before and printed(CHILD, before)) for _ in range(rounds + 1)][1:]  # compiled
    times = [ours[0] * 1e3 for ours, _ in starts]
    made = f"{rounds} fresh processes"
    yield Row("our import, node list and schemas", Spread.of(times), "ms", Target(high=150), made)
    if before is None:
        yield NOT_MEASURED
    else:
        theirs = [old[0] * 1e3 for _, old in starts]
        made = f"{Spread.of(theirs).median:.4g} ms there; {rounds} fresh processes each"
        yield Row(f"the same / at commit {COMMIT}", ratio(times, theirs), "", Target(high=0.7), made)
    modules = starts[-1][0][1]
    listed = ", ".join(f"`{name}`" for name in modules) or "none"
    yield f"Modules that this loads beyond ComfyUI's and our own: {listed}."
