"""Every example workflow opens from the template browser, converts, and runs to a saved picture, in both renderers.

`kinds.json`, of core nodes only, has one of each thing that the conversion must get right.
"""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page
from templates import EXAMPLES, browse, opened

from devtools import frontend
from devtools.host import ROOT
from devtools.server import ComfyServer
from devtools.workflow import to_prompt
from devtools.workflows import FOLDER

KINDS = Path(__file__).with_name("kinds.json")
SCREENSHOTS = ROOT / "output" / "browser"
SLOW = {"GuidanceKitTrainNoisyClassifier", "GuidanceKitLoadEmojiDemo"}  # take their time: run under one renderer only

# A card without a picture of its own shows the front end's, outside of the thumbnail's content.
LOADED = """at => {
  const image = document.querySelector(`${at} [data-testid=thumbnail-content] img`);
  return image?.complete && image.naturalWidth > 0;
}"""
both = pytest.mark.parametrize("renderer", frontend.RENDERERS)


def run(page: Page, server: ComfyServer, name: str) -> None:
    """Click Run; a picture must be saved."""
    outputs = frontend.press_run(page, server)
    saved = [place for shown in outputs.values() for place in shown.get("images", []) if place["type"] == "output"]
    assert saved
    assert all((server.base / "output" / place["subfolder"] / place["filename"]).is_file() for place in saved)
    frontend.settle(page)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def test_there_are_examples():
    assert EXAMPLES


def _in_order(cards: Locator, names: list[str]) -> None:
    shown = cards.evaluate_all("cards => cards.map(card => card.dataset.testid)")  # more are drawn when one scrolls
    assert len(shown) > len(EXAMPLES)
    assert shown == [f"template-workflow-{name}" for name in names[: len(shown)]]


@both
def test_templates_stand_in_order_and_have_thumbnails(pages: dict[str, Page], renderer: str):
    page = pages[renderer]
    dialog = browse(page)
    cards = dialog.get_by_test_id("template-workflows-content").locator("[data-testid^=template-workflow-]")
    names = sorted(path.stem for path in FOLDER.glob("*.json"))
    frontend.eventually(page, lambda: _in_order(cards, names))
    for name in (names[0], EXAMPLES[-1].stem):
        card = f"template-workflow-{name}"
        dialog.get_by_test_id(card).scroll_into_view_if_needed()  # its picture is asked for only now
        page.wait_for_function(LOADED, arg=f"[data-testid='{card}']")
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


@both
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, renderer: str, pages: dict[str, Page], server: ComfyServer, object_info: dict):
    workflow, page = json.loads(path.read_text(encoding="utf-8")), pages[renderer]
    opened(page, path.stem, len(workflow["nodes"]))
    assert frontend.prompt_of(page) == to_prompt(workflow, object_info)
    if renderer == "nodes2" or not SLOW & {node["type"] for node in workflow["nodes"]}:
        run(page, server, f"{path.stem}-{renderer}")


@both
def test_kinds(renderer: str, pages: dict[str, Page], server: ComfyServer, object_info: dict):
    workflow, page = json.loads(KINDS.read_text(encoding="utf-8")), pages[renderer]
    frontend.load(page, workflow, KINDS.stem)
    assert page.evaluate("() => app.graph.nodes.filter(n => !(n.type in LiteGraph.registered_node_types))") == []
    assert frontend.prompt_of(page) == to_prompt(workflow, object_info)
    run(page, server, f"{KINDS.stem}-{renderer}")
