"""README's five minutes, done as it says, in both renderers, and what it says that one then sees."""

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from templates import opened

from devtools import frontend
from devtools.host import ROOT
from devtools.server import ComfyServer
from devtools.workflows import DIGITS, place

README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
SCREENSHOTS = ROOT / "output" / "browser"
P = frontend.PREFIX
SAID = ".guidance-kit-text"
TARGET = r"Target's probability at the end: ([\d.]+) %"
VUE = "() => LiteGraph.vueNodesMode"
FIND = "title => Number(app.graph.nodes.find(each => each.title === title).id)"
SET = """
([id, name, value]) => {
  const widget = app.graph.getNodeById(id).widgets.find(each => each.name === name);
  widget.value = value;
  widget.callback?.(value);
}
"""
CHAIN = """
() => {
  const [first, second] = app.graph.nodes.filter(node => node.type === "GuidanceKitCFGCombine");
  for (const [node, method] of [[first, "apg"], [second, "rescale"]]) {
    const widget = node.widgets.find(each => each.name === "method");
    widget.value = method;
    widget.callback?.(method);
  }
  first.connect(0, second, second.inputs.findIndex(each => each.name === "model"));
}
"""


def template(page: Page, graph: str) -> None:
    """Open an example under the name that README gives it."""
    path = place(graph, DIGITS)
    assert f"**{path.stem}**" in README
    opened(page, path.stem, len(json.loads(path.read_text(encoding="utf-8"))["nodes"]))


def write(page: Page, title: str, name: str, text: str) -> None:
    """Write into a node's text widget: by hand where it is an element of the page."""
    node = page.evaluate(FIND, title)
    if page.evaluate(VUE):
        page.locator(f"[data-node-id='{node}']").get_by_role("textbox").first.fill(text)
    else:
        page.evaluate(SET, [node, name, text])


def run(page: Page, server: ComfyServer, *patterns: str) -> str:
    """Run, and give what the nodes of our pack then say; each pattern must be found in it."""
    frontend.press_run(page, server)

    def told() -> None:
        said = "\n".join(page.locator(SAID).all_inner_texts())
        assert [each for each in patterns if not re.search(each, said)] == [], said

    frontend.eventually(page, told)
    frontend.settle(page)
    return "\n".join(page.locator(SAID).all_inner_texts())


def see_it_work(page: Page, server: ComfyServer) -> None:
    template(page, "classifier_guidance_at_four_scales")
    run(page, server)
    assert "`seven, -three`, into the node **Target**" in README
    write(page, "Target", "value", "seven, -three")
    said = run(page, server, rf"({TARGET}(?s:.*?)){{3}}")
    sevens = [float(each) for each in re.findall(TARGET, said)]
    assert len(sevens) == 3 and min(sevens) > 50


def save_passes(page: Page, server: ComfyServer) -> None:
    template(page, "cfg_in_an_interval")
    assert "34 of 50 passes" in README
    run(page, server, "34 of 50 passes")


def another_method(page: Page, server: ComfyServer) -> None:
    template(page, "cfg_methods_side_by_side")  # has those that README names, chosen; two of them go together
    page.evaluate(CHAIN)
    run(page, server, "(scale 20 here(?s:.*?)){6}")


def train(page: Page, server: ComfyServer) -> None:
    template(page, "train_on_two_folders_then_guide")
    run(page, server, "40 three", r"GOOD: scale [\d.]+, sigma ")


def compare_and_ask(page: Page, server: ComfyServer) -> None:
    template(page, "sweep_two_scales_on_one_sheet")
    run(page, server, "9 pictures")
    template(page, "cfg_in_an_interval")
    frontend.add_node(page, f"{P}GuidanceReport", (2500, 0), sources={"model": f"{P}CFGCombine"})
    run(page, server, "(34 of 50 passes(?s:.*?)){3}")  # on CFG Combine, in the example's report, and in ours


STEPS: dict[str, Callable[[Page, ComfyServer], None]] = {
    "1. See it work.": see_it_work,
    "2. Save passes in your own workflow.": save_passes,
    "3. Try another method.": another_method,
    "4. Train a classifier of your own.": train,
    "5. Compare, and ask what happened.": compare_and_ask,
}


@pytest.mark.slow
@pytest.mark.parametrize("renderer", frontend.RENDERERS)
@pytest.mark.parametrize("step", STEPS)
def test_step(step: str, renderer: str, pages: dict[str, Page], server: ComfyServer):
    assert f"**{step}**" in README
    page = pages[renderer]
    STEPS[step](page, server)
    expect(page.get_by_test_id("error-overlay-see-errors")).to_have_count(0)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"step{step[0]}-{renderer}.png")
