"""What README asks of a newcomer, done by hand: a graph from an empty canvas, and another target for the starter."""

import json

import pytest
from playwright.sync_api import Page

from devtools import frontend
from devtools.host import ROOT
from devtools.server import ComfyServer
from devtools.workflows import DIGITS, place

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
EMPTY = """
() => {
  app.graph.clear();
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [0, 0];
  app.canvas.setDirty(true, true);
}
"""
PLACED = "([count]) => app.graph.nodes.length === count && !app.graph.nodes.some(node => node.flags.ghost)"
MOVE = """
([title, x, y]) => {
  const node = app.graph.nodes.find(each => each.title === title);
  const { scale, offset } = app.canvas.ds;
  node.pos = [x / scale - offset[0], y / scale - offset[1]];
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
([title, values]) => {
  const node = app.graph.nodes.find(each => each.title === title);
  for (const [name, value] of Object.entries(values)) node.widgets.find(each => each.name === name).value = value;
}
"""

FIELDS = """
() => [...document.querySelectorAll("input, textarea")].filter(each => each.offsetParent).map(each => each.value)
"""
TOGGLE = "() => app.extensionManager.command.execute('Comfy.ToggleLinear')"


def put(page: Page, name: str, count: int) -> None:
    """Find a node by the search and put it down; it follows the mouse until it is clicked."""

    def search(timeout: int) -> None:
        page.evaluate("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
        box = page.get_by_role("dialog")
        box.locator("input").first.fill(name, timeout=timeout)
        box.get_by_text(name, exact=True).first.click(timeout=timeout)
        page.mouse.click(800, 800)

    frontend.again(search, lambda timeout: page.wait_for_function(PLACED, arg=[count], timeout=timeout))
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


def test_from_an_empty_canvas(page: Page, server: ComfyServer):
    page.evaluate(EMPTY)
    for count, name in enumerate(PLACES, 1):
        put(page, name, count)
    frontend.settle(page)
    for wire in WIRES:
        drag(page, wire)
    page.evaluate(SET, ["Classifier Guidance Sampler", {"target": "seven", "steps": 4}])
    (sampler,) = (each for each in frontend.prompt_of(page).values() if "target" in each["inputs"])
    assert "negative" not in sampler["inputs"] and sampler["inputs"]["cfg"] == 1
    outputs = frontend.press_run(page, server)
    (saved,) = (one for shown in outputs.values() for one in shown.get("images", []) if one["type"] == "output")
    assert server.image(saved).size == (128, 128)


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_one_target_for_all_rows_of_the_starter(renderer: str, pages: dict[str, Page], server: ComfyServer):
    page, path = pages[renderer], place("classifier_guidance_at_four_scales", DIGITS)
    frontend.load_template(page, json.loads(path.read_text(encoding="utf-8")), path.stem)
    page.evaluate(SET, ["Target", {"value": "seven, -three"}])
    prompt = frontend.prompt_of(page)
    (target,) = (key for key, node in prompt.items() if node["inputs"].get("value") == "seven, -three")
    rows = [node for node in prompt.values() if "classifier_scale" in node["inputs"]]
    assert [node["inputs"]["target"] for node in rows] == [[target, 0]] * 4


def test_app_mode_asks_for_target_and_strength(pages: dict[str, Page]):
    page, path = pages["nodes2"], place("classifier_guidance_at_four_scales", DIGITS)
    frontend.load_template(page, json.loads(path.read_text(encoding="utf-8")), path.stem)
    page.evaluate(TOGGLE)
    try:

        def asked() -> None:
            fields = page.evaluate(FIELDS)
            assert DIGITS.target in fields and any(float_of(each) == DIGITS.scales[-1] for each in fields)
            assert str(DIGITS.steps) not in fields

        frontend.eventually(page, asked)
    finally:
        page.screenshot(path=SCREENSHOTS / "app-mode.png")
        page.evaluate(TOGGLE)


def float_of(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
