"""ComfyUI's front end in a browser, used as a user does: opened, given workflows and nodes, run, saved."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from playwright.sync_api import Browser, Page, TimeoutError

from devtools.server import ComfyServer, PromptRejected

PREFIX = "GuidanceKit"
NODES_2 = "Comfy.VueNodes.Enabled"
RENDERERS = {"canvas": False, "nodes2": True}  # name: the setting's value
PATIENCE = 120_000  # milliseconds: a machine that is busy otherwise may take its time
TRY = 10_000  # milliseconds, after which what may have been missed is done again
READY = "() => window.graph && app.extensionManager.spinner === false"

LOAD = "([workflow, name]) => app.loadGraphData(workflow, true, true, name)"
LOAD_TEMPLATE = "([workflow, name]) => app.loadGraphData(workflow, true, true, name, { openSource: 'template' })"
PROMPT = "async () => (await app.graphToPrompt()).output"
ADD = """
([type, at, values, sources]) => {
  const node = LiteGraph.createNode(type);
  node.pos = at;
  app.graph.add(node);
  for (const [name, value] of Object.entries(values)) {
    const widget = node.widgets.find(each => each.name === name);
    if (!widget) throw Error(`${type} has no widget ${name}`);
    widget.value = value;
    widget.callback?.(value);
  }
  const others = app.graph.nodes.filter(each => each !== node).toReversed();
  for (const name of node.inputs.map(each => each.name)) {
    const place = node.inputs.findIndex(each => each.name === name);
    const socket = node.inputs[place];
    const grown = /\\.\\D+[1-9]\\d*$/.test(name);  // further sockets of a growing input
    if (!(name in sources) && (socket.widget || grown)) continue;
    const fits = output => socket.type === "*" || socket.type.split(",").includes(output.type);
    const source = others.find(each => each.type === (sources[name] ?? each.type) && each.outputs.some(fits));
    source?.connect(source.outputs.findIndex(fits), node, place);
  }
  return Number(node.id);
}
"""
TOLD = "ids => ids.every(id => id in app.nodeOutputs)"
STATE = """
ids => JSON.stringify({
  lacking: ids.filter(id => !(id in app.nodeOutputs)),
  nodes: app.graph.nodes.map(node => String(node.id)),
  workflow: app.extensionManager.workflow.activeWorkflow?.filename,
  client: app.api.clientId,
  socket: app.api.socket?.readyState,
})
"""
VALUES = """
() => Object.fromEntries(app.graph.nodes.map(node => [node.id, {
  type: node.type,
  title: node.title,
  widgets: Object.fromEntries(
    (node.widgets ?? []).filter(widget => widget.serialize !== false).map(widget => [widget.name, widget.value])),
  links: Object.fromEntries(node.inputs.filter(socket => socket.link != null).map(socket => {
    const link = app.graph.links.get(socket.link);
    return [socket.name, [link.origin_id, link.origin_slot]];
  })),
}]))
"""
DRAWN = """
() => [...document.images, ...app.graph.nodes.flatMap(node => node.imgs ?? [])].every(image => image.complete)
"""


def pack_nodes(object_info: dict[str, dict]) -> list[str]:
    """The ids of this pack's nodes."""
    return [node for node in object_info if node.startswith(PREFIX)]


def open_page(server: ComfyServer, browser: Browser, nodes2: bool, width: int = 1600, height: int = 1000) -> Page:
    """A fresh page of the browser, not yet at the app; its renderer is Nodes 2.0 or the classic canvas."""
    server.set_setting(NODES_2, nodes2)
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(PATIENCE)
    return page


def start(page: Page, server: ComfyServer) -> None:
    """Go to the app, anew where the page is there already, and wait until it can be used."""
    page.goto(server.url)
    page.wait_for_function(READY)


def again(act: Callable[[int], object], happened: Callable[[int], object]) -> None:
    """Act until it has happened: a click may come too early for the front end, and its answer later than a try lasts.

    Both get a try's time in milliseconds, as Playwright takes it, and raise its TimeoutError. The act may be impossible
    because the one before has been answered at last; so happened is asked after it in any case.
    """
    for _ in range(PATIENCE // TRY):
        with suppress(TimeoutError):
            act(TRY)
        with suppress(TimeoutError):
            happened(TRY)
            return
    raise AssertionError(f"Nothing has happened in {PATIENCE // TRY} tries.")


def eventually(page: Page, check: Callable[[], object]) -> None:
    """Run a check until it passes; while the page is still at work its assertions may fail."""
    last = time.monotonic() + PATIENCE / 1000
    while True:
        try:
            check()
            return
        except AssertionError:
            if time.monotonic() > last:
                raise
        page.wait_for_timeout(50)


def load(page: Page, workflow: dict, name: str) -> None:
    """Open a workflow in a tab of its own."""
    page.evaluate(LOAD, [workflow, name])


def load_template(page: Page, workflow: dict, name: str) -> None:
    """Open a workflow as the template browser does: the whole of it in view."""
    page.evaluate(LOAD_TEMPLATE, [workflow, name])
    settle(page)


def add_node(
    page: Page,
    class_type: str,
    at: tuple[int, int] = (0, 0),
    values: dict[str, Any] | None = None,
    sources: dict[str, str] | None = None,
) -> int:
    """Add a node and give its id. values: by widget; sources: by socket, the type of the node to connect.

    Other sockets are connected to the latest output of their type, so that a node never heard of fits in.
    """
    return page.evaluate(ADD, [class_type, list(at), values or {}, sources or {}])


def prompt_of(page: Page) -> dict[str, dict]:
    """The prompt that the front end would queue, without titles, and with values as the server takes them out."""
    return {
        node_id: {
            "class_type": node["class_type"],
            "inputs": {name: _unwrapped(value) for name, value in node["inputs"].items()},
        }
        for node_id, node in page.evaluate(PROMPT).items()
    }


def _unwrapped(value: Any) -> Any:
    """A value without the wrapper of its type, in which the newest front end sends curves."""
    return value["__value__"] if isinstance(value, dict) and "__type__" in value else value


def values_of(page: Page) -> dict[str, dict]:
    """What the graph holds: node id -> type, title, widgets by name, and links by socket."""
    return page.evaluate(VALUES)


def press_run(page: Page, server: ComfyServer) -> dict[str, dict]:
    """Click Run, and wait until the page has the outputs, which are returned by node id.

    Raises PromptRejected, PromptFailed or PromptInterrupted, and AssertionError where the page is never told.
    """
    with page.expect_response(
        lambda answer: answer.url.endswith("/prompt") and answer.request.method == "POST"
    ) as queued:
        page.get_by_test_id("queue-button").click()
    answer = queued.value.json()
    if answer["node_errors"]:
        raise PromptRejected(answer.get("error", {}), answer["node_errors"])
    outputs = server.wait(answer["prompt_id"])
    try:
        page.wait_for_function(TOLD, arg=list(outputs))
    except TimeoutError as error:
        raise AssertionError(f"The page does not have what was run: {page.evaluate(STATE, list(outputs))}") from error
    return outputs


def save(page: Page, name: str) -> dict:
    """Press Ctrl+S and give the name that it asks for; returns what was stored as workflows/NAME.json."""
    with page.expect_response(
        lambda answer: "/userdata/workflows" in answer.url and answer.request.method == "POST"
    ) as stored:
        page.keyboard.press("Control+s")
        page.get_by_role("dialog").get_by_role("textbox").fill(name)
        page.keyboard.press("Enter")
    return json.loads(stored.value.request.post_data)


def settle(page: Page) -> None:
    """Wait until what is in view, which asks for its pictures only now, is drawn."""
    page.wait_for_timeout(600)
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(300)


def open_saved(page: Page, name: str) -> None:
    """Open workflows/NAME.json from the Workflows side bar."""
    page.get_by_role("button", name="Workflows (w)", exact=True).click()
    page.get_by_role("button", name="Refresh", exact=True).click()
    page.get_by_text(name, exact=True).click()
    page.wait_for_function("name => app.extensionManager.workflow.activeWorkflow.filename === name", arg=name)
