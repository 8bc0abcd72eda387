"""Guidance Report's text is on its node after a run, and again when ComfyUI keeps the result of an earlier one."""

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


def test_the_report_is_on_the_node_again_when_it_was_kept(page: Page, server: ComfyServer):
    workflow = page.evaluate(BUILD)
    text = page.get_by_text("25 steps, 25 of them guided: 50 of 50 passes")
    for kept in (False, True):
        if kept:
            frontend.start(page, server)
        page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        assert text.count() == 0
        frontend.press_run(page, server)
        expect(text).to_be_visible()
