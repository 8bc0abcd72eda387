"""The starter as README has it: one target for all rows, and the same in app mode."""

import json

import pytest
from playwright.sync_api import Page

from devtools import frontend
from devtools.host import ROOT
from devtools.server import ComfyServer
from devtools.workflows import DIGITS, place

SCREENSHOTS = ROOT / "output" / "browser"
SET = """
([title, values]) => {
  const node = app.graph.nodes.find(each => each.title === title);
  for (const [name, value] of Object.entries(values)) node.widgets.find(each => each.name === name).value = value;
}
"""

FIELDS = """
() => [...document.querySelectorAll("input, textarea")].filter(each => each.offsetParent).map(each => each.value)
"""
TOGGLE = "() => app.extensionManager.command.execute('Comfy.ToggleLinear')"


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_one_target_for_all_rows_of_the_starter(renderer: str, pages: dict[str, Page], server: ComfyServer):
    page, path = pages[renderer], place("classifier_guidance_at_four_scales", DIGITS)
    frontend.load_template(page, json.loads(path.read_text(encoding="utf-8")), path.stem)
    page.evaluate(SET, ["Target", {"value": "seven, -three"}])
    prompt = frontend.prompt_of(page)
    (target,) = (key for key, node in prompt.items() if node["inputs"].get("value") == "seven, -three")
    rows = [node for node in prompt.values() if "classifier_scale" in node["inputs"]]
    assert [node["inputs"]["target"] for node in rows] == [[target, 0]] * 4


def test_app_mode_asks_for_target_and_strength(pages: dict[str, Page]):
    page, path = pages["nodes2"], place("classifier_guidance_at_four_scales", DIGITS)
    frontend.load_template(page, json.loads(path.read_text(encoding="utf-8")), path.stem)
    page.evaluate(TOGGLE)
    try:

        def asked() -> None:
            fields = page.evaluate(FIELDS)
            assert DIGITS.target in fields and any(float_of(each) == DIGITS.scales[-1] for each in fields)
            assert str(DIGITS.steps) not in fields

        frontend.eventually(page, asked)
    finally:
        page.screenshot(path=SCREENSHOTS / "app-mode.png")
        page.evaluate(TOGGLE)


def float_of(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
