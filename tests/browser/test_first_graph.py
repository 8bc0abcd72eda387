"""A graph from an empty canvas, as README says: nodes found by search, wires pulled from socket to socket."""

from contextlib import suppress

import pytest
from playwright.sync_api import Page, TimeoutError

from devtools import frontend
from devtools.host import ROOT
from devtools.server import ComfyServer

README = (ROOT / "README.md").read_text(encoding="utf-8")
SCREENSHOTS = ROOT / "output" / "browser"
PLACES = {  # where each node is put, by its name
    "Load Digits Demo": (150, 150),
    "Null-Condition Encoder": (150, 500),
    "Classifier Guidance Sampler": (600, 150),
    "VAE Decode": (1000, 150),
    "Save Image": (1000, 350),
}
WIRES = (  # from an output of a node to an input of another
    ("Load Digits Demo", "MODEL", "Classifier Guidance Sampler", "model"),
    ("Load Digits Demo", "classifier", "Classifier Guidance Sampler", "classifier"),
    ("Load Digits Demo", "latent", "Classifier Guidance Sampler", "latent_image"),
    ("Load Digits Demo", "MODEL", "Null-Condition Encoder", "model"),
    ("Null-Condition Encoder", "CONDITIONING", "Classifier Guidance Sampler", "positive"),
    ("Classifier Guidance Sampler", "LATENT", "VAE Decode", "samples"),
    ("Load Digits Demo", "VAE", "VAE Decode", "vae"),
    ("VAE Decode", "IMAGE", "Save Image", "images"),
)
EMPTY = "() => app.graph.clear()"
PLACED = "([count]) => app.graph.nodes.length === count && !app.graph.nodes.some(node => node.flags.ghost)"
MOVE = """
([title, x, y]) => {
  const node = app.graph.nodes.find(each => each.title === title);
  node.pos = [x, y];
  app.canvas.ds.scale = 1;  // the front end may come later with a view of its own
  app.canvas.ds.offset = [0, 0];
  app.canvas.setDirty(true, true);
}
"""
ENDS = """
([from, output, to, input]) => {
  const node = title => app.graph.nodes.find(each => each.title === title);
  const [source, target] = [node(from), node(to)];
  const places = [
    source.getOutputPos(source.outputs.findIndex(each => each.name === output)),
    target.getInputPos(target.inputs.findIndex(each => each.name === input)),
  ];
  const { scale, offset } = app.canvas.ds;
  return places.map(([x, y]) => [(x + offset[0]) * scale, (y + offset[1]) * scale]);
}
"""
WIRED = """
([from, output, to, input]) => {
  const target = app.graph.nodes.find(each => each.title === to);
  const socket = target.inputs.find(each => each.name === input);
  return socket.link != null && app.graph.getNodeById(app.graph.links.get(socket.link).origin_id).title === from;
}
"""
SET = """
values => {
  const node = app.graph.nodes.find(each => each.title === "Classifier Guidance Sampler");
  for (const [name, value] of Object.entries(values)) node.widgets.find(each => each.name === name).value = value;
}
"""
SEARCH = "() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')"
FREE = (1000, 820)  # of the window: where there is nothing to be hit, a panel at the right being open or not
SOON = 3000  # milliseconds


def put(page: Page, name: str, count: int) -> None:
    """Find a node by the search and put it down; it follows the mouse until it is clicked."""
    box = page.get_by_role("dialog").locator("input").first

    def search(_: int) -> None:
        page.mouse.move(FREE[0] - 50, FREE[1] - 50)
        page.mouse.dblclick(*FREE, delay=50)
        with suppress(TimeoutError):
            box.wait_for(timeout=SOON)
            return
        page.evaluate(SEARCH)  # on a busy machine two clicks are no double-click

    def down(_: int) -> None:
        page.mouse.move(FREE[0] - 50, FREE[1] - 10)
        page.mouse.move(*FREE, steps=3)
        page.mouse.click(*FREE, delay=50)

    frontend.again(search, lambda timeout: box.wait_for(timeout=timeout))
    box.fill(name)
    page.get_by_role("dialog").get_by_text(name, exact=True).first.click()
    frontend.again(down, lambda timeout: page.wait_for_function(PLACED, arg=[count], timeout=timeout))
    page.evaluate(MOVE, [name, *PLACES[name]])


def drag(page: Page, wire: tuple[str, str, str, str]) -> None:
    """Pull a wire from an output to an input."""

    def pull(timeout: int) -> None:
        (from_x, from_y), (to_x, to_y) = page.evaluate(ENDS, wire)
        page.mouse.move(from_x, from_y)
        page.mouse.down()
        page.mouse.move((from_x + to_x) / 2, (from_y + to_y) / 2)
        page.mouse.move(to_x, to_y, steps=4)
        page.mouse.up()

    frontend.again(pull, lambda timeout: page.wait_for_function(WIRED, arg=wire, timeout=timeout))


@pytest.mark.slow
@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_from_an_empty_canvas(renderer: str, pages: dict[str, Page], server: ComfyServer):
    page = pages[renderer]
    said = " ".join(README.partition("**From an empty canvas.** Double-click")[2].partition("\n\n")[0].split())
    assert all(f"*{name}*" in said for name in PLACES)
    page.evaluate(EMPTY)
    for count, name in enumerate(PLACES, 1):
        put(page, name, count)
    frontend.settle(page)
    for wire in WIRES:
        drag(page, wire)
    page.evaluate(SET, {"target": "seven", "steps": 4})
    (sampler,) = (each for each in frontend.prompt_of(page).values() if "target" in each["inputs"])
    assert "negative" not in sampler["inputs"] and sampler["inputs"]["cfg"] == 1
    outputs = frontend.press_run(page, server)
    (saved,) = (one for shown in outputs.values() for one in shown.get("images", []) if one["type"] == "output")
    assert server.image(saved).size == (128, 128)
    frontend.settle(page)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"first-graph-{renderer}.png")
