"""A workflow under construction: nodes stacked in columns, columns in titled groups, groups from left to right.

Graphs are drafted from the server's own list of nodes, so that a new widget of a node appears in them by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from devtools.workflow import WIDGETS, Widget, controls, default, option_widgets, widgets

TITLE, ROW, WIDGET, TEXT_BOX = 30, 26, 28, 110  # pixels: a node's title, a socket, a widget, one of several lines
PADDING, BETWEEN, MARGIN = 20, 34, 20  # pixels: in a node, from node to node, from nodes to their group's frame
HEADING = 50  # pixels of a group's title
LETTERS, LINE = 0.145, 18  # of a note: letters a pixel of its width, pixels a line
BLUE, BROWN, GREEN, GREY = "#3f789e", "#8a6d3b", "#3f7a56", "#5a5a5a"


@dataclass(frozen=True, eq=False)
class Output:
    """An output of a node on a canvas, to be given as another node's input."""

    node: dict
    index: int = 0

    def slot(self, index: int) -> Output:
        """Another output of the same node."""
        return Output(self.node, index)


@dataclass
class Canvas:
    """A workflow named `name`. Start a group, and place nodes in it one below the other."""

    name: str
    object_info: dict[str, dict]
    nodes: list[dict] = field(default_factory=list)
    links: list[list] = field(default_factory=list)
    groups: list[dict] = field(default_factory=list)
    right: int = -MARGIN  # edge of all that is placed
    x: int = 0
    y: int = 0
    width: int = 0

    @contextmanager
    def group(self, title: str, color: str = BLUE, width: int = 330) -> Iterator[None]:
        """A titled frame, right of all others, around the nodes that are placed meanwhile."""
        first = len(self.nodes)
        self.right += MARGIN
        self._begin(width)
        yield
        left = min(node["pos"][0] for node in self.nodes[first:])
        below = max(node["pos"][1] + node["size"][1] for node in self.nodes[first:])
        bounding = [left - MARGIN, -HEADING, self.right - left + 2 * MARGIN, below + MARGIN + HEADING]
        self.groups.append(
            {"id": len(self.groups) + 1, "title": title, "bounding": bounding, "color": color, "flags": {}}
        )
        self.right += 2 * MARGIN

    def column(self, width: int | None = None) -> None:
        """Go on in a column at the right of the last one, as wide as that unless told; an empty one is kept."""
        if self.y:
            self._begin(width or self.width)

    def node(self, class_type: str, title: str = "", room: int = 0, **inputs: Any) -> Output:
        """Place a node and give its first output.

        inputs: an Output is connected, anything else is a widget's value; a dict with the widget's own name among its
        keys is a choice with widgets of its own: axis={"axis": "sigma", "start": 3.0}. room: pixels below the widgets.
        """
        spec = self.object_info[class_type]
        connected = {name: value for name, value in inputs.items() if isinstance(value, Output)}
        values = _flat({name: value for name, value in inputs.items() if name not in connected})
        shown = list(_widget_values(spec, values))
        node = self._placed(
            class_type,
            height=_height(spec, shown, grown=sum("." in socket for socket in connected)) + room,
            outputs=[
                {"name": name, "type": type_, "links": []}
                for name, type_ in zip(spec["output_name"], spec["output"], strict=True)
            ],
            properties={"Node name for S&R": class_type},
            values=[value for _, value in shown],
        )
        if title:
            node["title"] = title
        for socket, source in connected.items():
            self._link(source, node, socket)
        return Output(node)

    def note(self, text: str) -> None:
        """Place a note in Markdown."""
        letters = LETTERS * self.width
        lines = sum(math.ceil(len(line) / letters) if line else 0.5 for line in text.split("\n"))
        self._placed("MarkdownNote", height=round(LINE * lines) + 40, outputs=[], properties={}, values=[text])

    def workflow(self) -> dict:
        """The workflow as the front end saves it, all groups of one height."""
        tallest = max(group["bounding"][3] for group in self.groups)
        return {
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": [group | {"bounding": [*group["bounding"][:3], tallest]} for group in self.groups],
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def _begin(self, width: int) -> None:
        self.x, self.y, self.width = self.right + MARGIN, 0, width
        self.right = self.x + width

    def _placed(self, class_type: str, height: int, outputs: list, properties: dict, values: list) -> dict:
        node = {
            "id": len(self.nodes) + 1,
            "type": class_type,
            "pos": [self.x, self.y + TITLE],
            "size": [self.width, height],
            "flags": {},
            "order": len(self.nodes),
            "mode": 0,
            "inputs": [],
            "outputs": outputs,
            "properties": properties,
            "widgets_values": values,
        }
        self.nodes.append(node)
        self.y += TITLE + height + BETWEEN
        return node

    def _link(self, source: Output, target: dict, socket: str) -> None:
        output = source.node["outputs"][source.index]
        link_id = len(self.links) + 1
        ends = [source.node["id"], source.index, target["id"], len(target["inputs"])]
        self.links.append([link_id, *ends, output["type"]])
        target["inputs"].append({"name": socket, "type": output["type"], "link": link_id})
        output["links"].append(link_id)


def _flat(values: dict) -> dict:
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict) and name in value:
            flat |= {name if key == name else f"{name}.{key}": each for key, each in value.items()}
        else:
            flat[name] = value
    return flat


def _widget_values(spec: dict, values: dict) -> Iterator[tuple[Widget, Any]]:
    """Each widget and its value, in the order in which the front end saves them. Raises ValueError for other names."""
    pending = widgets(spec)
    while pending:
        widget = pending.pop(0)
        value = values.pop(widget.name, None)
        value = default(widget) if value is None else value
        yield widget, value
        if widget.type == "COMFY_DYNAMICCOMBO_V3":
            pending[:0] = option_widgets(widget, value)
        yield from [(widget, "fixed")] * controls(widget)
    if values:
        raise ValueError(f"There is no widget {', '.join(values)} on this node.")


def _height(spec: dict, shown: list[tuple[Widget, Any]], grown: int) -> int:
    """Pixels that a node needs for its sockets, `grown` ones among them, and for its widgets."""
    sockets = sum(
        (len(each) < 2 or each[1].get("forceInput", False) or not isinstance(each[0], list) and each[0] not in WIDGETS)
        for group in ("required", "optional")
        for each in (spec["input"].get(group) or {}).values()
    )
    boxes = sum(bool(widget.options.get("multiline")) for widget, _ in shown)
    rows = max(sockets + grown, len(spec["output"]))
    return PADDING + ROW * rows + WIDGET * (len(shown) - boxes) + TEXT_BOX * boxes
