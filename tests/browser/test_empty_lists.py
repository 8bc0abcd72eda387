"""A node whose folder holds no file yet says so, in both renderers, and never "undefined"."""

import pytest
from playwright.sync_api import Page, Route, expect

from devtools import frontend
from devtools.server import ComfyServer, PromptRejected

P = frontend.PREFIX
LOADERS = {"LoadNoisyClassifier": "file", "LoadImageClassifier": "folder", "LoadAestheticHead": "file"}
SHOWN = """
() => app.graph.nodes.flatMap(node => node.widgets ?? []).filter(each => each.type === "combo")
  .map(each => each._displayValue ?? each.value)
"""


def without_files(route: Route) -> None:
    """Answer as a ComfyUI does whose folders of models are empty."""
    answer = route.fetch()
    nodes = answer.json()
    for node, name in LOADERS.items():
        nodes[f"{P}{node}"]["input"]["required"][name][1]["options"] = []
    route.fulfill(response=answer, json=nodes)


def test_a_loader_without_a_file_refuses_by_name(page: Page, server: ComfyServer):
    page.route("**/object_info", without_files)
    frontend.start(page, server)
    page.evaluate("() => app.graph.clear()")
    for place, node in enumerate(LOADERS):
        frontend.add_node(page, f"{P}{node}", (400 * place, 0))
    expect(page.get_by_text("undefined")).to_have_count(0)
    assert set(page.evaluate(SHOWN)) == {""}
    frontend.add_node(page, "PreviewAny", (0, 400), sources={"source": f"{P}LoadNoisyClassifier"})
    with pytest.raises(PromptRejected, match="there is no file '' in models/noisy_classifiers; put it there"):
        frontend.press_run(page, server)
