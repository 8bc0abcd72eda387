"""A training shows its losses once: the picture of a run in progress goes when the node has the one of its end."""

import pytest
from playwright.sync_api import Page, expect

from devtools import frontend
from devtools.server import ComfyServer

P = frontend.PREFIX
BLANK = {"nodes": [], "links": [], "version": 0.4}


@pytest.mark.parametrize("renderer", ["nodes2"])  # the classic canvas has one place for both
def test_losses_are_shown_once(renderer: str, pages: dict[str, Page], server: ComfyServer):
    page = pages[renderer]
    frontend.load(page, BLANK, "training")
    frontend.add_node(page, f"{P}LoadDigitsDemo", (1000, 0))
    for label in ("three", "seven"):
        values = {"folder": f"digits demo/{label}", "width": 128, "height": 128}
        frontend.add_node(page, f"{P}LabelledFolder", (1400, 0), values)
    training = frontend.add_node(page, f"{P}TrainNoisyClassifier", (200, 100), {"steps": 3, "size": "small"})
    frontend.add_node(page, "PreviewAny", (1800, 0), sources={"source": f"{P}TrainNoisyClassifier"})
    assert len(frontend.press_run(page, server)[str(training)]["images"]) == 1
    expect(page.locator(f"[data-node-id='{training}'] img")).to_have_count(1)
