"""The pack's subgraph blueprints are listed by ComfyUI, and run as one node in both renderers."""

import json

import pytest
from playwright.sync_api import Page

from devtools import frontend
from devtools.host import PACK_NAME
from devtools.make_workflows import written
from devtools.server import ComfyServer
from devtools.workflows.blueprints import BLUEPRINTS, FOLDER, blueprint

# Connects every open input of the first node, which is the subgraph, to a node beside it: by name, else by type.
CONNECT = """
([digits, others]) => {
  const node = app.graph.nodes[0];
  const made = others.map(([type, values]) => {
    const each = LiteGraph.createNode(type);
    app.graph.add(each);
    for (const [name, value] of Object.entries(values)) each.widgets.find(widget => widget.name === name).value = value;
    return each;
  });
  const loader = app.graph.getNodeById(digits);
  const [null_, decode, save] = made;
  const by = { model: [loader, 0], vae: [loader, 1], latent_image: [loader, 3] };
  for (const input of node.inputs.filter(each => !each.widget)) {
    const [source, slot] = by[input.name] ?? [null_, 0];
    source.connect(slot, node, node.inputs.indexOf(input));
  }
  loader.connect(0, null_, null_.inputs.findIndex(each => each.name === "model"));
  node.connect(0, decode, 0);
  loader.connect(1, decode, 1);
  decode.connect(0, save, 0);
}
"""
SET = """
few => app.graph.nodes[0].widgets.filter(each => each.name in few).forEach(each => { each.value = few[each.name]; })
"""
BESIDE = [
    ["GuidanceKitNullConditionEncoder", {}],
    ["VAEDecode", {}],
    ["SaveImage", {}],
]


def test_they_are_what_the_maker_writes_and_listed(server: ComfyServer, object_info: dict):
    """Otherwise: python -m devtools.make_workflows --graphs."""
    for name in BLUEPRINTS:
        assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == written(blueprint(name, object_info))
    listed = server._get("/global_subgraphs").values()
    assert {each["name"] for each in listed if each["info"]["node_pack"].endswith(PACK_NAME)} == BLUEPRINTS.keys()


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
@pytest.mark.parametrize("name", BLUEPRINTS)
def test_it_runs_as_one_node(name: str, renderer: str, pages: dict[str, Page], server: ComfyServer):
    page = pages[renderer]
    frontend.load(page, json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")), name)
    few = {"steps": 3, "training_steps": 6, "own_samples": 8}
    page.evaluate(SET, few)
    digits = frontend.add_node(page, "GuidanceKitLoadDigitsDemo", (-400, 0))
    page.evaluate(CONNECT, [digits, BESIDE])
    with page.expect_response(
        lambda answer: answer.url.endswith("/prompt") and answer.request.method == "POST"
    ) as queued:
        page.get_by_test_id("queue-button").click()
    answer = queued.value.json()
    assert not answer["node_errors"]
    ran = queued.value.request.post_data_json["prompt"].values()
    assert {value for node in ran for key, value in node["inputs"].items() if key in ("steps", "amount")} <= {
        3,
        6,
        8,
        20,
    }
    outputs = server.wait(answer["prompt_id"])
    assert any(place["type"] == "output" for shown in outputs.values() for place in shown.get("images", []))
