"""Arranges blocks in rows and columns, in their order, so that a screen shows the whole as large as can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

SCREEN = (1600, 1000)  # of which only the shape matters

Size = tuple[int, int]
Box = tuple[int, int, int, int]  # x, y, width, height


@dataclass(frozen=True)
class Plan:
    """A block, or plans side by side or one below the other; its least size, and how to lay it out in a box."""

    width: int
    height: int
    boxes: Callable[[Box], list[Box]]

    @property
    def distance(self) -> float:
        """How far away a screen must be to show it whole."""
        return max(self.width / SCREEN[0], self.height / SCREEN[1])


def arranged(blocks: Sequence[Iterable[Size]], gap: int, together: int = 1) -> list[Box]:
    """A box for each block, no smaller than one of its sizes (width, height), all as wide or high as their neighbours.

    together: so many of the first stand side by side.
    """
    first, *others = [[Plan(*size, lambda box: [box]) for size in sizes] for sizes in blocks]
    for plans in others[: together - 1]:
        first = _lowest(_beside(one, other, gap) for one in first for other in plans)
    plans = _divided([first, *others[together - 1 :]], gap)
    best = min(plans, key=lambda plan: (plan.distance, plan.width * plan.height))
    return best.boxes((0, 0, best.width, best.height))


def _divided(blocks: list[list[Plan]], gap: int) -> list[Plan]:
    """Every way to divide the blocks into rows and columns."""
    if len(blocks) == 1:
        return blocks[0]
    return _lowest(
        joined(one, other, gap)
        for cut in range(1, len(blocks))
        for one in _divided(blocks[:cut], gap)
        for other in _divided(blocks[cut:], gap)
        for joined in (_beside, _below)
    )


def _lowest(plans: Iterable[Plan]) -> list[Plan]:
    """Of plans of one width the lowest, less those that another beats in both."""
    kept: list[Plan] = []
    for plan in sorted(plans, key=lambda plan: (plan.width, plan.height)):
        if not kept or plan.height < kept[-1].height:
            kept.append(plan)
    return kept


def _beside(one: Plan, other: Plan, gap: int) -> Plan:
    def boxes(box: Box) -> list[Box]:
        x, y, width, height = box
        left = _share(width - gap, one.width, other.width)
        return [*one.boxes((x, y, left, height)), *other.boxes((x + left + gap, y, width - gap - left, height))]

    return Plan(one.width + gap + other.width, max(one.height, other.height), boxes)


def _below(one: Plan, other: Plan, gap: int) -> Plan:
    def boxes(box: Box) -> list[Box]:
        x, y, width, height = box
        top = _share(height - gap, one.height, other.height)
        return [*one.boxes((x, y, width, top)), *other.boxes((x, y + top + gap, width, height - gap - top))]

    return Plan(max(one.width, other.width), one.height + gap + other.height, boxes)


def _share(length: int, one: int, other: int) -> int:
    """What the one gets of a length that is no less than both need."""
    return one + (length - one - other) * one // (one + other)
