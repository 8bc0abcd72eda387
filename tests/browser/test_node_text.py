"""What a run says on a node can be read whole, in both renderers."""

import pytest
from playwright.sync_api import Page

from devtools import frontend

LINES = ["CFG: 27 of 50 passes run.", "2 gradients, log p(target) -1.93 at the last.", "A third line."]
SAY = """
text => window.comfyAPI.api.api.dispatchEvent(new CustomEvent("guidance_kit.text", { detail:
  { workflow: String(app.graph.id), node: String(app.graph.nodes[0].id), text, refused: false } }))
"""
TEXT = ".guidance-kit-text"
FITS = "() => { const node = app.graph.nodes[0]; return node.size[1] >= node.computeSize()[1]; }"


HOSTILE = [  # as labels and texts in a file of others
    "[[click me|https://evil.example/a]] and __LNK0__",
    "<a href='https://evil.example/b'>seven</a>, a<b but b>a &amp; more",
    "[seven](https://evil.example/c) ![](https://evil.example/d.png) https://evil.example/e www.evil.example",
    "# seven *one* **two** _three_ ~four~ `five` me@evil.example",
    "- first | second",
    "1. third \\* fourth",
]


def said(page: Page, renderer: str, text: str):
    """The text of a CFG Combine that says it, once it is shown."""
    frontend.load(page, {"nodes": [], "links": [], "version": 0.4}, "text")
    frontend.add_node(page, "GuidanceKitCFGCombine")
    page.evaluate(
        "() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [200, 200]; app.canvas.setDirty(true, true) }"
    )
    page.evaluate(SAY, text)
    found = page.locator(TEXT)
    if renderer == "canvas":
        page.wait_for_function(FITS)
    found.wait_for()
    frontend.settle(page)
    return found


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_every_line_is_shown(renderer: str, pages: dict[str, Page]):
    text = said(pages[renderer], renderer, "\n".join(LINES))

    def whole():
        assert text.inner_text().strip().split("\n") == LINES
        assert text.evaluate("shown => shown.scrollHeight <= shown.clientHeight + 1")

    frontend.eventually(pages[renderer], whole)


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_text_of_others_is_shown_letter_by_letter(renderer: str, pages: dict[str, Page]):
    """No link, no picture, and no markup."""
    hostile = "\n".join(HOSTILE)
    text = said(pages[renderer], renderer, hostile)

    def letter_by_letter():
        assert text.inner_text().strip() == hostile
        assert text.locator("a, img, strong, em, code, del, h1, ul, ol, table").count() == 0

    frontend.eventually(pages[renderer], letter_by_letter)
