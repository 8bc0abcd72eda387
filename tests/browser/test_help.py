"""Help opens from a node as a user opens it, and shows the node's page with its picture."""

import pytest
from playwright.sync_api import Locator, Page, expect

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


def open_help(page: Page, name: str) -> Locator:
    """Click the node's title and the button that tells about it, until its page is there.

    The first click may be taken as the second of a double click on the last node's title, which opens its title for
    editing; and a selection that comes late takes the toolbox with the button away once more.
    """
    shown = page.locator(".node-help-content")

    def click(timeout: int) -> None:
        page.keyboard.press("Escape")  # what a double click has opened
        page.mouse.click(*page.evaluate(TITLE))
        page.get_by_test_id("info-button").click(timeout=timeout)

    frontend.again(click, lambda timeout: shown.locator("h1", has_text=name).wait_for(timeout=timeout))
    return shown


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
            shown = open_help(page, name)
            expect(shown.locator("h1")).to_have_text(name)
            page.wait_for_function(LOADED, arg=shown.locator("img").element_handle())
            file = HELP / (f"{node}.md" if language == "en" else f"{node}/{language}.md")
            expect(shown.locator("h2")).to_have_count(file.read_text(encoding="utf-8").count("\n## "))
    finally:
        server.set_setting("Comfy.Locale", "en")
