"""What a run says on a node can be read whole, in both renderers."""

import runpy

import pytest
from playwright.sync_api import Page

from devtools import frontend
from devtools.host import ROOT

PLAIN_TEXT = runpy.run_path(str(ROOT / "nodes" / "ui" / "plain_text.py"))

LINES = ["CFG: 27 of 50 passes run.", "2 gradients, log p(target) -1.93 at the last.", "A third line."]
SAY = """
text => window.comfyAPI.api.api.dispatchCustomEvent("progress_text", { nodeId: String(app.graph.nodes[0].id), text })
"""
TEXT = '[aria-label="$$node-text-preview"]'
FITS = "() => { const node = app.graph.nodes[0]; return node.size[1] >= node.computeSize()[1]; }"


HOSTILE = [  # as labels and texts in a file of others
    "[[click me|https://evil.example/a]] and __LNK0__",
    "<a href='https://evil.example/b'>seven</a>, a<b but b>a &amp; more",
    "[seven](https://evil.example/c) ![](https://evil.example/d.png) https://evil.example/e www.evil.example",
    "# seven *one* **two** _three_ ~four~ `five` me@evil.example",
    "- first | second",
    "1. third \\* fourth",
    "\u202enevas\u202c and se\u200bven",
]


def said(page: Page, renderer: str, text: str, shown: str):
    """The text of a CFG Combine that says it, once it is shown."""
    frontend.load(page, {"nodes": [], "links": [], "version": 0.4}, "text")
    frontend.add_node(page, "GuidanceKitCFGCombine")
    page.evaluate(
        "() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [200, 200]; app.canvas.setDirty(true, true) }"
    )
    page.evaluate(SAY, text)
    if renderer == "nodes2":
        found = page.locator(TEXT)
    else:
        page.wait_for_function("() => app.graph.nodes[0].guidanceKitShown?.length > 20")
        page.wait_for_function(FITS)
        found = page.locator(".dom-widget").get_by_text(shown)
    found.wait_for()
    frontend.settle(page)
    return found


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_every_line_is_shown(renderer: str, pages: dict[str, Page]):
    text = said(pages[renderer], renderer, "\n".join(LINES), LINES[0])

    def whole():
        assert text.inner_text().strip().split("\n") == LINES
        assert text.evaluate("shown => shown.scrollHeight <= shown.clientHeight + 1")

    frontend.eventually(pages[renderer], whole)


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_text_of_others_is_shown_letter_by_letter(renderer: str, pages: dict[str, Page]):
    """No link, no picture, no markup, and nothing that disguises a label."""
    hostile = "\n".join(HOSTILE)
    text = said(pages[renderer], renderer, PLAIN_TEXT["plain"](hostile), "[[click me|")

    def letter_by_letter():
        assert text.inner_text().strip() == PLAIN_TEXT["visible"](hostile)
        assert text.locator("a, img, strong, em, code, del, h1, ul, ol, table").count() == 0

    frontend.eventually(pages[renderer], letter_by_letter)
    assert "[U+202E]nevas[U+202C] and se[U+200B]ven" in text.inner_text()
