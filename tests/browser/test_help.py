"""Help opens from a node as a user opens it, and shows the node's page with its picture."""

import pytest
from playwright.sync_api import Page, expect

from devtools import frontend
from devtools.host import ROOT
from devtools.make_locales import written
from devtools.server import ComfyServer

HELP = ROOT / "web" / "docs"
ADD = """name => {
  app.graph.clear();
  const node = LiteGraph.createNode(name);
  node.pos = [300, 250];
  app.graph.add(node);
  app.canvas.ds.reset();
}"""
TITLE = """() => {
  const { ds, canvas } = app.canvas;
  const frame = canvas.getBoundingClientRect();
  const [x, y] = app.graph.nodes[0].pos;
  return [frame.x + (x + 80 + ds.offset[0]) * ds.scale, frame.y + (y - 15 + ds.offset[1]) * ds.scale];
}"""
DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
LOADED = "picture => picture.complete && picture.naturalWidth > 100"


def select(page: Page) -> None:
    """Click the node's title, again where the click was taken as the second of a double click on the last one's."""

    def click(timeout: int) -> None:
        page.keyboard.press("Escape")  # what a double click has opened
        page.mouse.click(*page.evaluate(TITLE))

    frontend.again(click, lambda timeout: page.get_by_test_id("info-button").wait_for(timeout=timeout))


@pytest.mark.parametrize(("language", "count"), [("en", 100), ("zh", 2)])
def test_help_of_nodes(page: Page, server: ComfyServer, language, count):
    """A click on a node's title, then one on the button that tells about it."""
    names = [(node, words["display_name"]) for node, words in written(language).items()][:count]
    server.set_setting("Comfy.Locale", language)
    try:
        frontend.start(page, server)
        for node, name in names:
            page.evaluate(ADD, node)
            page.evaluate(DRAWN)
            select(page)
            page.get_by_test_id("info-button").click()
            shown = page.locator(".node-help-content")
            expect(shown.locator("h1")).to_have_text(name)
            page.wait_for_function(LOADED, arg=shown.locator("img").element_handle())
            file = HELP / (f"{node}.md" if language == "en" else f"{node}/{language}.md")
            expect(shown.locator("h2")).to_have_count(file.read_text(encoding="utf-8").count("\n## "))
    finally:
        server.set_setting("Comfy.Locale", "en")
