"""What a run says on a node can be read whole, in both renderers."""

import pytest
from playwright.sync_api import Page

from devtools import frontend

LINES = ["CFG: 27 of 50 passes run.", "2 gradients, log p(target) -1.93 at the last.", "A third line."]
SAY = """
text => window.comfyAPI.api.api.dispatchCustomEvent("progress_text", { nodeId: String(app.graph.nodes[0].id), text })
"""
TEXT = '[aria-label="$$node-text-preview"]'
FITS = "() => { const node = app.graph.nodes[0]; return node.size[1] >= node.computeSize()[1]; }"


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_every_line_is_shown(renderer: str, pages: dict[str, Page]):
    page = pages[renderer]
    frontend.load(page, {"nodes": [], "links": [], "version": 0.4}, "text")
    frontend.add_node(page, "GuidanceKitCFGCombine")
    page.evaluate(
        "() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [200, 200]; app.canvas.setDirty(true, true) }"
    )
    page.evaluate(SAY, "\n".join(LINES))
    if renderer == "nodes2":
        text = page.locator(TEXT)
    else:
        page.wait_for_function("() => app.graph.nodes[0].guidanceKitShown?.includes('third')")
        page.wait_for_function(FITS)
        text = page.locator(".dom-widget").get_by_text(LINES[0])
    text.wait_for()
    frontend.settle(page)

    def whole():
        assert text.inner_text().strip().split("\n") == LINES
        assert text.evaluate("shown => shown.scrollHeight <= shown.clientHeight + 1")

    frontend.eventually(page, whole)
