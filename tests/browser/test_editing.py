"""Nodes of the pack are copied, pasted, deleted, brought back and added again without loss, in both renderers."""

import json

import pytest
from playwright.sync_api import Page

from devtools import frontend

COUNT = "count => app.graph.nodes.length === count"


def held(page: Page) -> list[str]:
    """What each node is and holds, whatever its id."""
    nodes = frontend.values_of(page).values()
    return sorted(json.dumps([node["type"], node["widgets"]], sort_keys=True) for node in nodes)


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_copy_delete_undo(renderer: str, pages: dict[str, Page], object_info: dict):
    page, nodes = pages[renderer], frontend.pack_nodes(object_info)
    frontend.load(page, {"nodes": [], "links": [], "version": 0.4}, "editing")
    for i, node in enumerate(nodes):
        frontend.add_node(page, node, (500 * (i % 5), 900 * (i // 5)))
    before, wired = held(page), frontend.values_of(page)
    page.locator("#graph-canvas").focus()

    page.keyboard.press("Control+a")
    page.keyboard.press("Control+c")
    page.keyboard.press("Control+v")
    page.wait_for_function(COUNT, arg=2 * len(nodes))
    assert held(page) == sorted(before * 2)

    page.keyboard.press("Delete")  # the pasted ones, which are selected
    page.wait_for_function(COUNT, arg=len(nodes))
    assert frontend.values_of(page) == wired

    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.wait_for_function(COUNT, arg=0)
    page.keyboard.press("Control+z")
    page.wait_for_function(COUNT, arg=len(nodes))
    assert frontend.values_of(page) == wired

    for node_id in wired:
        page.evaluate("id => app.graph.remove(app.graph.getNodeById(id))", node_id)
    for node in nodes:
        frontend.add_node(page, node)
    assert held(page) == before


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_training_keeps_its_seed(renderer: str, pages: dict[str, Page]):
    page = pages[renderer]
    frontend.load(page, {"nodes": [], "links": [], "version": 0.4}, "seeds")
    frontend.add_node(page, "GuidanceKitTrainNoisyClassifier")
    seed = "() => app.graph.nodes[0].widgets.find(widget => widget.name === 'seed')"
    assert page.evaluate(f"({seed})().linkedWidgets.map(widget => widget.value)") == ["fixed"]
