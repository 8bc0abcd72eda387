"""Workflows keep all that they hold when they are saved and opened again, in either renderer; old ones stay good.

golden/NAME.json is a workflow as the front end saved it with version 0.1.0 of the pack, golden/NAME.prompt.json the
prompt that it became. They are never written anew.
"""

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from devtools import frontend
from devtools.server import ComfyServer, PromptFailed, PromptInterrupted, PromptRejected
from devtools.workflow import Widget, default, option_widgets, widgets
from devtools.workflows import DIGITS, graphs_of, place

EXAMPLES = [place(name, DIGITS) for name in graphs_of(DIGITS)]
GOLDEN = Path(__file__).with_name("golden")
OLD = sorted(path for path in GOLDEN.glob("*.json") if not path.name.endswith(".prompt.json"))
WAYS = list(itertools.product(frontend.RENDERERS, repeat=2))  # saved in, opened in

SAVED = "() => app.graph.serialize()"


def changed(widget: Widget, pick: int):
    """A value that is not the default, and for a choice with widgets of its own the option of that number."""
    usual, step = default(widget), widget.options.get("step", 1)
    if widget.type == "COMFY_DYNAMICCOMBO_V3":
        return widget.choices[pick % len(widget.choices)]["key"]
    if widget.choices:
        return widget.choices[-1]
    if widget.type == "BOOLEAN":
        return not usual
    if widget.type == "STRING":
        return f"0.5, 0.{pick}"
    return round(usual + step if usual + step <= widget.options["max"] else usual - step, 6)


def variants(spec: dict) -> Iterator[dict]:
    """Widget values of a node, all changed, until every option of its choices has been there."""
    longest = max([1, *(len(each.choices) for each in widgets(spec) if each.type == "COMFY_DYNAMICCOMBO_V3")])
    for pick in range(longest):
        values, pending = {}, widgets(spec)
        while pending:
            widget = pending.pop(0)
            values[widget.name] = changed(widget, pick)
            if widget.type == "COMFY_DYNAMICCOMBO_V3":
                pending[:0] = option_widgets(widget, values[widget.name])
        yield values


def every_node(page: Page, object_info: dict) -> None:
    """Put every node of the pack, in all its variants, into a new workflow."""
    frontend.load(page, {"nodes": [], "links": [], "version": 0.4}, "every node")
    for column, node in enumerate(["EmptyLatentImage", *frontend.pack_nodes(object_info)]):
        for row, values in enumerate(variants(object_info[node])):
            node_id = frontend.add_node(page, node, (400 * column, 900 * row), values)
            held = frontend.values_of(page)[str(node_id)]["widgets"]
            assert {name: held[name] for name in values} == values


@pytest.mark.parametrize("saving", frontend.RENDERERS)
def test_every_node_in_a_file(saving: str, page: Page, pages: dict[str, Page], object_info: dict, request):
    name = request.node.callspec.id
    every_node(pages[saving], object_info)
    before, prompt = frontend.values_of(pages[saving]), frontend.prompt_of(pages[saving])
    frontend.save(pages[saving], name)
    frontend.open_saved(page, name)
    assert frontend.values_of(page) == before
    assert frontend.prompt_of(page) == prompt


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_kept(path: Path, pages: dict[str, Page]):
    saved, held = {}, {}
    for renderer, page in pages.items():
        frontend.load(page, json.loads(path.read_text(encoding="utf-8")), path.stem)
        saved[renderer], held[renderer] = page.evaluate(SAVED), frontend.values_of(page)
    assert held["canvas"] == held["nodes2"]
    for saving, opening in WAYS:
        frontend.load(pages[opening], saved[saving], path.stem)
        assert frontend.values_of(pages[opening]) == held[saving]


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_old_workflow(path: Path, renderer: str, pages: dict[str, Page], server: ComfyServer):
    workflow, page = json.loads(path.read_text(encoding="utf-8")), pages[renderer]
    recorded = json.loads(path.with_suffix(".prompt.json").read_text(encoding="utf-8"))
    frontend.load(page, workflow, path.stem)
    after = {node["id"]: node for node in page.evaluate(SAVED)["nodes"]}
    for node in workflow["nodes"]:
        old, new = node.get("widgets_values", []), after[node["id"]].get("widgets_values", [])
        assert new[: len(old)] == old, node["type"]  # widgets may be added at the end

    prompt = frontend.prompt_of(page)
    assert prompt.keys() == recorded.keys()
    for node_id, node in recorded.items():
        assert prompt[node_id]["class_type"] == node["class_type"]
        assert {name: prompt[node_id]["inputs"].get(name) for name in node["inputs"]} == node["inputs"]
    accepted(server, prompt)


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_old_prompt(path: Path, server: ComfyServer):
    accepted(server, json.loads(path.with_suffix(".prompt.json").read_text(encoding="utf-8")))


UNCONNECTED = "'empty prompt' needs the input clip: connect it"


def accepted(server: ComfyServer, prompt: dict) -> None:
    """The server must take all of a prompt; it is stopped as soon as it begins. Raises PromptRejected.

    But for nodes that could never run, as an input that their choice needs is not connected: of these it is told now.
    """
    with contextlib.suppress(PromptInterrupted, PromptFailed):
        try:
            server.run(prompt, watch=lambda kind, _: kind == "execution_start" and server.interrupt())
        except PromptRejected as refused:
            told = [each["details"] for found in refused.node_errors.values() for each in found["errors"]]
            if not told or not all(UNCONNECTED in details for details in told):
                raise
