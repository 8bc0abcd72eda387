"""Every example workflow opens, converts and runs in a real browser, under both of the front end's renderers.

`kinds.json`, of core nodes only, has one of each thing that the conversion must get right.
"""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page

from devtools.host import ROOT
from devtools.server import ComfyServer
from devtools.workflow import to_prompt

EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
KINDS = Path(__file__).with_name("kinds.json")
SCREENSHOTS = ROOT / "output" / "browser"


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("path", [KINDS, *EXAMPLES], ids=lambda path: path.stem)
def test_workflow(path: Path, page: Page, server: ComfyServer, object_info: dict, request: pytest.FixtureRequest):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    missing = page.evaluate(
        "() => app.graph.nodes.filter(n => !(n.type in LiteGraph.registered_node_types)).map(n => n.type)"
    )
    assert missing == []

    output = page.evaluate("async () => (await app.graphToPrompt()).output")
    for node in output.values():
        del node["_meta"]
    assert output == to_prompt(workflow, object_info)

    with page.expect_response(
        lambda answer: answer.url.endswith("/prompt") and answer.request.method == "POST"
    ) as answer:
        page.evaluate("() => app.queuePrompt(0)")
    assert answer.value.status == 200, answer.value.text()
    queued = answer.value.json()
    assert queued["node_errors"] == {}
    outputs = server.wait(queued["prompt_id"])
    assert any(shown.get("images") for shown in outputs.values())

    page.wait_for_function("shown => shown in app.nodeOutputs", arg=next(iter(outputs)))
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{request.node.callspec.id}.png")
