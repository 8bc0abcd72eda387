"""In Chinese, nodes have Chinese names, labels and tooltips; the search finds nodes by common words."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from devtools import frontend
from devtools.make_locales import written
from devtools.server import ComfyServer

NODE = "GuidanceKitCFGCombine"
ADD = """name => {
  app.graph.clear();
  const node = LiteGraph.createNode(name);
  node.pos = [300, 250];
  app.graph.add(node);
  node.widgets.find(widget => widget.name === "method").value = "apg";
  app.canvas.ds.reset();
}"""
FACTS = """() => {
  const [node] = app.graph.nodes;
  return {
    title: node.title,
    widgets: Object.fromEntries(node.widgets.map(({ name, label }) => [name, label])),
    hints: Object.fromEntries(node.widgets.map(({ name, tooltip }) => [name, tooltip])),
    sockets: [...node.inputs, ...node.outputs].map(({ label, localized_name }) => label ?? localized_name),
  };
}"""
WIDGET = """name => {
  const { ds, canvas } = app.canvas;
  const frame = canvas.getBoundingClientRect();
  const { pos, widgets } = app.graph.nodes[0];
  const { y } = widgets.find(widget => widget.name === name);
  const [left, top] = [pos[0] + 60 + ds.offset[0], pos[1] + y + 10 + ds.offset[1]];
  return [frame.x + left * ds.scale, frame.y + top * ds.scale];
}"""


@pytest.fixture
def chinese(page: Page, server: ComfyServer) -> Iterator[Page]:
    """The page in Chinese."""
    server.set_setting("Comfy.Locale", "zh")
    try:
        frontend.start(page, server)
        yield page
    finally:
        server.set_setting("Comfy.Locale", "en")


def test_names_and_tooltips_are_chinese(chinese: Page):
    words = written("zh")[NODE]
    inputs = words["inputs"]
    chinese.evaluate(ADD, NODE)
    facts = chinese.evaluate(FACTS)
    assert facts["title"] == words["display_name"]
    for name, label in facts["widgets"].items():
        assert label == inputs[name.replace(".", "_")]["name"]
    assert {inputs["model"]["name"], inputs["schedule"]["name"], words["outputs"]["0"]["name"]} <= set(facts["sockets"])
    assert facts["hints"]["method.momentum"] == inputs["method_momentum"]["options"]["apg"]  # differs between methods
    for name in ("scale", "method.eta"):
        hint = chinese.get_by_text(inputs[name.replace(".", "_")]["tooltip"], exact=True)
        point(chinese, name, facts["widgets"][name], hint.first)  # the newest front end has it twice in the page


SAY = """
text => window.comfyAPI.api.api.dispatchEvent(new CustomEvent("guidance_kit.text", { detail:
  { workflow: String(app.graph.id), node: String(app.graph.nodes[0].id), text, refused: false } }))
"""


def test_texts_and_choices_are_chinese(chinese: Page):
    chinese.evaluate(ADD, NODE)
    chinese.evaluate(
        SAY, "CFG: scale 6 here, the sampler's cfg 8 is not used; 30 of 40 passes, 25 % saved.\nOther words."
    )
    text = chinese.locator(".guidance-kit-text")
    expect(text).to_contain_text("CFG：此处强度 6，采样器的 cfg 8 不起作用；运行 30 / 40 次，省去 25 %。")
    expect(text).to_contain_text("Other words.")  # which nobody has translated
    label = "() => app.graph.nodes[0].widgets.find(each => each.name === 'method').options.getOptionLabel('standard')"
    assert chinese.evaluate(label) == "标准"


def point(page: Page, name: str, label: str, hint: Locator) -> None:
    """Point at a widget, where either renderer shows it, until its hint is there."""
    drawn = page.locator("[data-node-id]").get_by_text(label, exact=True)

    def hover(timeout: int) -> None:
        page.mouse.move(0, 0)  # a pointer that rests where it was asks for no hint
        if drawn.count():
            drawn.first.hover(timeout=timeout)
        else:  # the front end may come late with a view of its own
            x, y = page.evaluate(WIDGET, name)
            page.mouse.move(x, y)
            page.mouse.move(x + 2, y)

    frontend.again(hover, lambda timeout: hint.wait_for(timeout=timeout))


FOUND = {
    "negative": ["CFG Combine", "Null-Condition Encoder", "Classifier Guidance"],
    "schedule": ["Scale Schedule"],
    "perp neg": ["CFG Combine"],
    "mimic": ["CFG Combine"],
    "rescale cfg": ["CFG Combine"],
    "schedule curve": ["Scale Schedule"],
    "load images from folder": ["Labelled Folder"],
    "labeled": ["Labelled Folder", "Labelled Latents"],
}


def test_the_search_finds_our_nodes(page: Page):
    page.evaluate("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    box = page.get_by_role("dialog")
    for word, names in FOUND.items():
        box.locator("input").first.fill(word)
        for name in names:
            expect(box.get_by_text(name, exact=True).first).to_be_visible()
