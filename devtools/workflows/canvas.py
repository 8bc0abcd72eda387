"""A workflow under construction: nodes stacked in columns, columns in titled groups, groups arranged for a screen.

Graphs are drafted from the server's own list of nodes, so that a new widget of a node appears in them by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from devtools.workflow import WIDGETS, Widget, controls, default, option_widgets, widgets
from devtools.workflows.arrange import Box, Size, arranged

TITLE, ROW, WIDGET, TEXT_BOX = 30, 20, 26, 110  # pixels: a node's title, a socket, a widget, one of several lines
PADDING, BETWEEN, MARGIN = 20, 34, 20  # pixels: in a node, from node to node, from nodes to their group's frame
HEADING = 50  # pixels of a group's title
NARROW = 270  # pixels of a node's width: the host's own KSampler's
NOTES = range(300, 601, 30)  # widths of a note
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


def extent(node: dict) -> Size:
    """The width and height of a node below its title, folded or not."""
    width, height = node["size"]
    return width, 0 if node["flags"].get("collapsed") else height


@dataclass
class Column:
    """Nodes below one another: folded ones on top, since the front end counts the room that they take unfolded."""

    width: int
    nodes: list[dict] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[int, dict]]:
        """How far below the column's top each node is, without its title, and the node."""
        y = 0
        for node in sorted(self.nodes, key=lambda node: not node["flags"]):
            yield y + TITLE, node
            y += TITLE + extent(node)[1] + BETWEEN

    @property
    def height(self) -> int:
        return max(y + node["size"][1] for y, node in self)


@dataclass(frozen=True)
class Group:
    """A titled frame and its nodes, column by column.

    shapes: other sizes that its only node may have, which then fills the frame. beside: whether it stands by the note.
    """

    title: str
    color: str
    columns: list[Column]
    shapes: tuple[Size, ...]
    beside: bool

    @property
    def sizes(self) -> list[Size]:
        """The least sizes of the frame."""
        width, height = sum(MARGIN + column.width for column in self.columns), max(c.height for c in self.columns)
        inner = [(MARGIN + width, TITLE + height) for width, height in self.shapes] or [(width, height)]
        return [(width + MARGIN, HEADING + height + MARGIN) for width, height in inner]

    def placed(self, box: Box) -> Iterator[dict]:
        """Its nodes, in a frame that is this box."""
        x, top, width, height = box
        filling = [width - 2 * MARGIN, height - HEADING - TITLE - MARGIN]
        for column in self.columns:
            for y, node in column:
                size = filling if self.shapes else node["size"]
                yield node | {"pos": [x + MARGIN, top + HEADING + y], "size": size}
            x += MARGIN + column.width

    def frame(self, number: int, box: Box) -> dict:
        """The frame as the front end saves it."""
        return {"id": number, "title": self.title, "bounding": list(box), "color": self.color, "flags": {}}


@dataclass
class Canvas:
    """A workflow named `name`. Start a group, place nodes in it one below the other; the first is that of the note."""

    name: str
    object_info: dict[str, dict]
    nodes: list[dict] = field(default_factory=list)
    links: list[list] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)  # of the group
    shapes: tuple[Size, ...] = ()  # of the group's only node

    @contextmanager
    def group(self, title: str, color: str = BLUE, width: int = NARROW, beside: bool = False) -> Iterator[None]:
        """A titled frame around the nodes that are placed meanwhile. beside: it stands by the note."""
        self.columns, self.shapes = [Column(width)], ()
        yield
        self.groups.append(Group(title, color, self.columns, self.shapes, beside))

    def column(self, width: int | None = None) -> None:
        """Go on in a column at the right of the last one, as wide as that unless told; an empty one is kept."""
        if self.columns[-1].nodes:
            self.columns.append(Column(width or self.columns[-1].width))

    def node(self, class_type: str, title: str = "", room: int = 0, folded: bool = False, **inputs: Any) -> Output:
        """Place a node and give its first output.

        inputs: an Output is connected, anything else is a widget's value; a dict with the widget's own name among its
        keys is a choice with widgets of its own: axis={"axis": "sigma", "start": 3.0}. room: pixels below the widgets.
        folded: only its title is to be seen.
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
            folded=folded,
        )
        if title:
            node["title"] = title
        for socket, source in connected.items():
            self._link(source, node, socket)
        return Output(node)

    def note(self, text: str) -> None:
        """Place a note in Markdown, the only node of its group."""
        self._placed("MarkdownNote", height=0, outputs=[], properties={}, values=[text])
        self.shapes = tuple((width, _note_height(text, width)) for width in NOTES)

    def workflow(self) -> dict:
        """The workflow as the front end saves it, with the groups arranged."""
        note, *others = self.groups
        groups = [note, *sorted(others, key=lambda group: not group.beside)]
        together = 1 + sum(group.beside for group in groups)
        boxes = arranged([group.sizes for group in groups], MARGIN, together)
        placed = [node for group, box in zip(groups, boxes, strict=True) for node in group.placed(box)]
        return {
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": sorted(placed, key=lambda node: node["id"]),
            "links": self.links,
            "groups": [each.frame(i, box) for i, (each, box) in enumerate(zip(groups, boxes, strict=True), 1)],
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def _placed(
        self, class_type: str, height: int, outputs: list, properties: dict, values: list, folded: bool = False
    ) -> dict:
        node = {
            "id": len(self.nodes) + 1,
            "type": class_type,
            "pos": [0, 0],
            "size": [self.columns[-1].width, height],
            "flags": {"collapsed": True} if folded else {},
            "order": len(self.nodes),
            "mode": 0,
            "inputs": [],
            "outputs": outputs,
            "properties": properties,
            "widgets_values": values,
        }
        self.nodes.append(node)
        self.columns[-1].nodes.append(node)
        return node

    def _link(self, source: Output, target: dict, socket: str) -> None:
        output = source.node["outputs"][source.index]
        link_id = len(self.links) + 1
        ends = [source.node["id"], source.index, target["id"], len(target["inputs"])]
        self.links.append([link_id, *ends, output["type"]])
        target["inputs"].append({"name": socket, "type": output["type"], "link": link_id})
        output["links"].append(link_id)


def _note_height(text: str, width: int) -> int:
    letters = LETTERS * width
    lines = sum(math.ceil(len(line) / letters) if line else 0.5 for line in text.split("\n"))
    return round(LINE * lines) + 40


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
