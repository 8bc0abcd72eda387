"""What a run says on nodes is there again after a reload, a change of tabs, and a run that was kept."""

import uuid

import pytest
from playwright.sync_api import Page, expect

from devtools import frontend
from devtools.server import ComfyServer

BUILD = """() => {
  app.graph.clear();
  const add = (type, x) => {
    const node = LiteGraph.createNode(type);
    node.pos = [x, 100];
    app.graph.add(node);
    return node;
  };
  const [digits, combine, report] = ["LoadDigitsDemo", "CFGCombine", "GuidanceReport"].map((name, i) =>
    add(`GuidanceKit${name}`, 40 + 420 * i));
  digits.connect(0, combine, 0);
  combine.connect(0, report, 0);
  return app.graph.serialize();
}"""
SAID = "25 steps, 25 of them guided: 50 of 50 passes"
BLANK = {"nodes": [], "links": [], "version": 0.4}


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_texts_come_back(renderer: str, pages: dict[str, Page], server: ComfyServer):
    page = pages[renderer]
    frontend.load(page, BLANK, "texts")
    workflow = page.evaluate(BUILD)
    text = page.get_by_text(SAID)
    frontend.load(page, workflow, "before")
    assert text.count() == 0
    frontend.press_run(page, server)
    expect(text).to_be_visible()

    frontend.load(page, BLANK, "another")
    expect(text).to_have_count(0)
    page.get_by_role("button", name="before").or_(page.get_by_role("tab", name="before")).first.click()
    expect(text).to_be_visible()

    frontend.start(page, server)
    expect(text).to_be_visible()

    frontend.load(page, workflow | {"id": str(uuid.uuid4())}, "of another")  # has not run
    expect(text).to_have_count(0)
    frontend.press_run(page, server)
    expect(text).to_be_visible()
