"""A workflow under construction: nodes stacked in columns, columns in titled groups, groups arranged for a screen.

Graphs are drafted from the server's own list of nodes, so that a new widget of a node appears in them by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from devtools.workflow import WIDGETS, Widget, controls, default, option_widgets, widgets
from devtools.workflows.arrange import Size, arranged
from devtools.workflows.groups import MARGIN, TITLE, Column, Group

ROW, WIDGET, TEXT_BOX, PADDING = 20, 26, 110, 20  # pixels: a socket, a widget, one of several lines, around them
NARROW = 260  # pixels of a node's width: hardly less than the host's own KSampler
NOTES = range(300, 601, 30)  # widths of a note
LETTERS, LINE = 0.145, 18  # of a note: letters a pixel of its width, pixels a line
BLUE, BROWN, GREEN, GREY = "#3f789e", "#8a6d3b", "#3f7a56", "#5a5a5a"


def titled(name: str) -> str:
    """The title of a graph for people."""
    return name.replace("_", " ").capitalize().replace("cfg", "CFG").replace("Cfg", "CFG")


@dataclass(frozen=True)
class Model:
    """A file that a node names, where it is to be had, and the folder of ComfyUI's models that it belongs into."""

    name: str
    url: str
    directory: str


@dataclass(frozen=True, eq=False)
class Output:
    """An output of a node on a canvas, to be given as another node's input."""

    node: dict
    index: int = 0

    @property
    def type(self) -> str:
        """What comes out of it, as sockets name it."""
        return self.node["outputs"][self.index]["type"]

    def slot(self, index: int) -> Output:
        """Another output of the same node."""
        return Output(self.node, index)


@dataclass
class Canvas:
    """A workflow named `name`. Start a group, place nodes in it one below the other; the first is that of the note."""

    name: str
    object_info: dict[str, dict]
    nodes: list[dict] = field(default_factory=list)
    links: list[list] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    asked: list[list] = field(default_factory=list)  # what app mode asks for: node id, widget
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

    def node(
        self,
        class_type: str,
        title: str = "",
        room: int = 0,
        folded: bool = False,
        models: Sequence[Model] = (),
        **inputs: Any,
    ) -> Output:
        """Place a node and give its first output.

        inputs: an Output is connected, in place of a widget, too; anything else is a widget's value; a dict with the
        widget's own name among its keys is a choice with widgets of its own: axis={"axis": "sigma", "start": 3.0}.
        room: pixels below the widgets. models: files that it names, which the front end offers to download.
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
            properties={"Node name for S&R": class_type}
            | ({"models": [vars(each) for each in models]} if models else {}),
            values=[value for _, value in shown],
        )
        if title:
            node["title"] = title
        if folded:
            self.fold(Output(node))
        written = {widget.name for widget, _ in shown}
        for socket, source in connected.items():
            self._link(source, node, socket, {"widget": {"name": socket}} if socket in written else {})
        return Output(node)

    def fold(self, output: Output) -> Output:
        """Let only the title of a node be seen."""
        node = output.node
        node["flags"], node["size"] = {"collapsed": True}, [node["size"][0], TITLE]
        return output

    def note(self, text: str) -> None:
        """Place a note in Markdown, the only node of its group."""
        self._placed("MarkdownNote", height=0, outputs=[], properties={}, values=[text])
        self.shapes = tuple((width, _note_height(text, width)) for width in NOTES)

    def ask(self, output: Output, *names: str) -> None:
        """Let app mode ask for widgets of a node."""
        self.asked += [[output.node["id"], name] for name in names]

    def workflow(self) -> dict:
        """The workflow as the front end saves it, with the groups arranged."""
        note, *others = self.groups
        groups = [note, *sorted(others, key=lambda group: not group.beside)]
        together = 1 + sum(group.beside for group in groups)
        boxes = arranged([group.sizes for group in groups], MARGIN, together)
        placed = [node for group, box in zip(groups, boxes, strict=True) for node in group.placed(box)]
        saved = [node["id"] for node in self.nodes if node["type"] == "SaveImage"]
        return {
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": sorted(placed, key=lambda node: node["id"]),
            "links": self.links,
            "groups": [each.frame(i, box) for i, (each, box) in enumerate(zip(groups, boxes, strict=True), 1)],
            "config": {},
            "extra": {"linearData": {"inputs": self.asked, "outputs": saved}},
            "version": 0.4,
        }

    def _placed(self, class_type: str, height: int, outputs: list, properties: dict, values: list) -> dict:
        node = {
            "id": len(self.nodes) + 1,
            "type": class_type,
            "pos": [0, 0],
            "size": [self.columns[-1].width, height],
            "flags": {},
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

    def _link(self, source: Output, target: dict, socket: str, more: dict) -> None:
        output = source.node["outputs"][source.index]
        link_id = len(self.links) + 1
        ends = [source.node["id"], source.index, target["id"], len(target["inputs"])]
        self.links.append([link_id, *ends, output["type"]])
        target["inputs"].append({"name": socket, "type": output["type"], **more, "link": link_id})
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
