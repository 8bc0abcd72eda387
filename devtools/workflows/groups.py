"""Titled frames on a canvas: nodes below one another in columns, columns side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from devtools.workflows.arrange import Box, Size

TITLE, HEADING = 30, 50  # pixels: the title of a node, of a frame
BETWEEN, MARGIN = 34, 20  # pixels: from node to node, from nodes to their frame


def extent(node: dict) -> Size:
    """The width and height of a node below its title, folded or not."""
    width, height = node["size"]
    return width, 0 if node["flags"].get("collapsed") else height


@dataclass
class Column:
    """Nodes below one another."""

    width: int
    nodes: list[dict] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[int, dict]]:
        """How far below the column's top each node is, without its title, and the node."""
        y = 0
        for node in self.nodes:
            yield y + TITLE, node
            y += TITLE + extent(node)[1] + BETWEEN

    @property
    def height(self) -> int:
        return sum(TITLE + extent(node)[1] + BETWEEN for node in self.nodes) - BETWEEN


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
