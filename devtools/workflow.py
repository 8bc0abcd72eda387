"""Converts a workflow as the front end saves it (version 0.4) to the API format that `/prompt` takes.

The rules are those of the front end's own `graphToPrompt`, which the browser tests compare with. Titles (`_meta`) are
left out; subgraphs, autogrow widgets and the random `{a|b}` of dynamic prompts are not supported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

MUTED, BYPASSED = 2, 4
VIRTUAL = {"Note", "MarkdownNote", "PrimitiveNode", "Reroute"}

# Input types that the front end draws as widgets, with the value of a new one that declares no default.
WIDGETS = {"INT": 0, "FLOAT": 0, "BOOLEAN": False, "STRING": "", "COMBO": None, "COMFY_DYNAMICCOMBO_V3": None}
WIDGETS |= dict.fromkeys(["BOUNDING_BOX", "COLOR", "CURVE", "MARKDOWN", "RANGE", "TEXTAREA"])
# Widgets that are always sent as they start and have no place in `widgets_values`.
UNSAVED = {"IMAGECOMPARE": ["", ""]}


def to_prompt(workflow: dict, object_info: dict[str, dict]) -> dict[str, dict]:
    """The prompt that the front end would queue for this workflow: node id -> class_type and inputs.

    `object_info` is the server's list of nodes. Raises ValueError for a node that is not in it.
    """
    return _Graph(workflow, object_info).prompt()


@dataclass(frozen=True)
class Widget:
    name: str
    type: str
    options: dict
    choices: list


class _Graph:
    def __init__(self, workflow: dict, object_info: dict[str, dict]):
        self.info = object_info
        self.nodes = {node["id"]: node for node in workflow["nodes"]}
        # A link is [id, origin, origin's slot, target, target's slot, type].
        self.links = {link[0]: link for link in workflow["links"]}

    def prompt(self) -> dict[str, dict]:
        return {
            str(node_id): {"class_type": node["type"], "inputs": self.inputs(node)}
            for node_id, node in self.nodes.items()
            if node["type"] not in VIRTUAL and node.get("mode") not in (MUTED, BYPASSED)
        }

    def inputs(self, node: dict) -> dict[str, Any]:
        """Widget values, and over them what is connected and leads to a node that runs."""
        if node["type"] not in self.info:
            raise ValueError(f"Node {node['id']} is a {node['type']!r}, which this server does not know.")
        found = dict(self.widget_values(node))
        for socket in node.get("inputs", []):
            if (source := self.source(socket)) is not None:
                found[socket["name"]] = source
        return found

    def source(self, socket: dict, type_: str | None = None) -> Any:
        """What a socket is connected to: [node id, slot], a PrimitiveNode's value, or None for nothing that runs."""
        if socket.get("link") is None:
            return None
        _, origin, slot, *_ = self.links[socket["link"]]
        node, type_ = self.nodes[origin], type_ or socket["type"]
        if node.get("mode") == MUTED:
            return None
        if node.get("mode") == BYPASSED:
            passed_on = _bypassed_socket(node, slot, type_)
            return passed_on and self.source(passed_on)
        if node["type"] == "Reroute":
            return self.source(node["inputs"][0], type_)
        if node["type"] == "PrimitiveNode":
            return node["widgets_values"][0]
        return [str(origin), slot]

    def widget_values(self, node: dict) -> Iterator[tuple[str, Any]]:
        """(name, value) of each widget, in the order in which `widgets_values` lists them."""
        saved = node.get("widgets_values") or []
        if isinstance(saved, dict):
            raise ValueError(f"Node {node['id']} ({node['type']}) saves its widgets by name, which only old packs do.")
        values = iter(saved)
        pending = widgets(self.info[node["type"]])
        while pending:
            widget = pending.pop(0)
            value = UNSAVED[widget.type] if widget.type in UNSAVED else next(values, default(widget))
            if widget.type == "COMFY_DYNAMICCOMBO_V3":
                pending[:0] = option_widgets(widget, value)
            for _ in range(controls(widget)):
                next(values, None)
            if isinstance(value, list):
                value = {"__value__": value} | ({"__type__": "CURVE"} if widget.type == "CURVE" else {})
            if value is not None:
                yield widget.name, value


def widgets(spec: dict) -> list[Widget]:
    """The widgets of a node, or of an option of a DynamicCombo, in the front end's order."""
    found, order = [], spec.get("input_order", {})
    for group in ("required", "optional"):
        inputs = spec["input"].get(group) or {}
        for name in order.get(group) or inputs:
            type_, options = (*inputs[name], {})[:2]
            choices = options.get("options", [])
            if isinstance(type_, list):
                type_, choices = "COMBO", type_
            type_ = options.get("widgetType", type_)
            if (type_ in WIDGETS or type_ in UNSAVED) and not options.get("forceInput"):
                found.append(Widget(name, type_, options, choices))
    return found


def option_widgets(combo: Widget, key: str) -> list[Widget]:
    """The widgets that the chosen option of a DynamicCombo brings along, by their nested names."""
    chosen = next((option["inputs"] for option in combo.choices if option["key"] == key), {})
    return [replace(inner, name=f"{combo.name}.{inner.name}") for inner in widgets({"input": chosen})]


def default(widget: Widget) -> Any:
    if widget.type == "COMFY_DYNAMICCOMBO_V3":
        return widget.choices[0]["key"]
    first = widget.choices[0] if widget.choices else WIDGETS[widget.type]
    return widget.options.get("default", first)


def controls(widget: Widget) -> int:
    """How many widgets, saved but not sent, the front end puts behind this one for control_after_generate."""
    by_name = widget.type == "INT" and widget.name in ("seed", "noise_seed")
    if not widget.options.get("control_after_generate", by_name):
        return 0
    return 2 if widget.type == "COMBO" else 1  # a combo has a filter, too


def _bypassed_socket(node: dict, slot: int, type_: str) -> dict | None:
    """The input that a bypassed node hands on at an output: the same slot, else the first of the same type."""
    sockets, output = node.get("inputs", []), node["outputs"][slot]["type"]
    if type_ == "*":
        return sockets[slot] if slot < len(sockets) else sockets[0]
    fitting = [each for each in sockets if _fits(each["type"], output) and _fits(each["type"], type_)]
    if slot < len(sockets) and sockets[slot] in fitting:
        return sockets[slot]
    return next((each for each in sockets if each["type"] == type_), fitting[0] if fitting else None)


def _fits(one: str, other: str) -> bool:
    """Whether the front end would connect the two types; either may be `*` or a list with commas."""
    return "*" in (one, other) or not set(one.lower().split(",")).isdisjoint(other.lower().split(","))
