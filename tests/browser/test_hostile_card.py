"""A classifier file of somebody else: its labels are shown as they are, in menus, on nodes and in refusals."""

from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from devtools import frontend
from devtools.host import ROOT
from devtools.server import ComfyServer, PromptFailed, PromptRejected
from guidance_core.classifier.noisy import NoisyClassifier

P = frontend.PREFIX
LABELS = [
    "[[click me|https://evil.example/a]]",
    "<a href='//evil.example'>seven</a>",
    "<img src=x onerror=alert(1)> a<b",
    "[three](https://evil.example/c) **bold**",
    *(f"label {i}" for i in range(6)),
]
TEXT = ".guidance-kit-text"
LIVE = f"a[href*='evil'], img[src='x'], {TEXT} strong"


@pytest.fixture(scope="module")
def hostile(server: ComfyServer) -> str:
    """The digits' classifier under such labels, among the server's files; the second page finds it loaded."""
    digits = NoisyClassifier.load(ROOT / "guidance_core" / "demo" / "classifier.safetensors")
    NoisyClassifier(digits.network, replace(digits.card, labels=LABELS)).save(
        server.base / "models" / "noisy_classifiers" / "hostile.safetensors"
    )
    return "hostile.safetensors"


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_labels_of_a_hostile_file_are_shown_as_they_are(
    renderer: str, pages: dict[str, Page], server: ComfyServer, hostile: str
):
    """On *Load Noisy Classifier* after a run, and in the refusal of a target that is none of them."""
    page = pages[renderer]
    frontend.load(page, {"nodes": [], "links": [], "version": 0.4}, "hostile")
    page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [100, 100]; }")
    frontend.add_node(page, f"{P}LoadDigitsDemo", (1800, 900))
    frontend.add_node(page, f"{P}LoadNoisyClassifier", (100, 100), {"file": hostile})
    frontend.add_node(
        page,
        f"{P}ClassifierGuidance",
        (600, 100),
        {"target": "nothing of it"},
        {"classifier": f"{P}LoadNoisyClassifier"},
    )
    frontend.add_node(page, "PreviewAny", (1100, 100), sources={"source": f"{P}ClassifierGuidance"})
    with pytest.raises((PromptFailed, PromptRejected)) as caught:
        frontend.press_run(page, server)
    for label in LABELS[:4]:
        assert label in str(caught.value)
        expect(page.locator(TEXT).filter(has_text=label)).to_have_count(2)
    assert page.locator(LIVE).count() == 0
