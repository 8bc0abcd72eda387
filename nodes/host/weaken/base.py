"""A way to weaken a model: hooks of ComfyUI's own in its options, under which it predicts worse in one respect."""

import re
from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from ....guidance_core.errors import GuidanceError, shortened
from ....guidance_core.frozen import frozen
from ....guidance_core.params import Checked, text
from .. import architectures
from ..architectures import Architecture, Block, Options

ENTRY = re.compile(r"(?:(?P<kind>[a-z]+)\s*)?(?:(?P<first>\d{1,4})(?:\s*-\s*(?P<last>\d{1,4}))?)?")


@frozen
class Weakening(Checked, ABC):
    """One way to weaken: a frozen dataclass of its parameters, found by discovery.

    doc: what is weakened, in plain words. source: paper. rank: its place among the choices.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    doc: ClassVar[str]
    source: ClassVar[str]
    rank: ClassVar[int] = 0

    def knows(self, kind: Architecture) -> bool:
        """Whether it works on this kind of model."""
        return True

    @abstractmethod
    def weakened(self, options: Options, kind: Architecture, network: nn.Module) -> Options:
        """model_options under which a network of this kind is weakened; those given are left as they are."""

    def on(self, network: nn.Module, options: Options) -> Options:
        """model_options under which this network is weakened.

        Raises GuidanceError for a model that it does not know, and for blocks that the model does not have.
        """
        kind = architectures.known.architecture_of(network)
        if kind is None or not self.knows(kind):
            known = ", ".join(each.title for each in architectures.known.ARCHITECTURES if self.knows(each))
            is_kind = f"a {kind.title}" if kind else f"{type(network).__name__}, which is none of these"
            raise GuidanceError(
                f"'{self.name}' knows {known}; this model is {is_kind}. Choose another way, or leave it out."
            )
        return self.weakened(options, kind, network)


@frozen
class BlockWeakening(Weakening):
    """A way to weaken some of a model's blocks.

    depth: where in the model its usual blocks are, 0 the first to 1 the last. count: how many they are.
    """

    depth: ClassVar[float] = 0.5
    count: ClassVar[int] = 1

    blocks: str = text(
        "",
        "Which blocks, such as 7-9, or double 3, single 12-14, or middle, input 4; empty is usual for the model.",
    )

    @abstractmethod
    def applied(self, options: Options, kind: Architecture, blocks: list[Block]) -> Options:
        """model_options under which these blocks are weakened; those given are left as they are."""

    def weakened(self, options, kind, network):
        return self.applied(options, kind, self._chosen(kind.blocks(network), kind))

    def usual(self, there: list[Block]) -> list[Block]:
        """The blocks where none are asked for: of the first stack about a depth in it; of a UNet its middle."""
        if middle := [block for block in there if block.kind == "middle"]:
            return middle
        first = [block for block in there if block.kind == there[0].kind]
        start = min(max(round(self.depth * len(first) - self.count / 2), 0), max(len(first) - self.count, 0))
        return first[start : start + self.count]

    def _chosen(self, there: list[Block], kind: Architecture) -> list[Block]:
        """The blocks that are asked for, or the usual ones."""
        if not self.blocks.strip():
            return self.usual(there)
        chosen: list[Block] = []
        for entry in filter(None, (each.strip().lower() for each in self.blocks.split(","))):
            chosen += _named(entry, there, kind)
        return list(dict.fromkeys(chosen))


def _named(entry: str, there: list[Block], kind: Architecture) -> list[Block]:
    """The blocks that an entry names."""
    found = ENTRY.fullmatch(entry)
    if found is None or not (found["kind"] or found["first"]):
        raise GuidanceError(
            f"blocks: '{shortened(entry)}' names no blocks: write numbers and ranges by comma, such as 7-9, with the "
            f"kind of block before them where there are several, such as single 3."
        )
    of_kind = [block for block in there if found["kind"] in (None, block.kind)]
    if found["first"] is not None:
        first = int(found["first"])
        last = int(found["last"] or first)
        of_kind = [block for block in of_kind if first <= block.number <= last]
    if not of_kind:
        raise GuidanceError(
            f"blocks: this model ({kind.title}) has no block '{shortened(entry)}'; it has {_listed(there)}."
        )
    return of_kind


def _listed(there: list[Block]) -> str:
    """The blocks of a model in a few words."""
    stacks: dict[str, list[int]] = {}
    for block in there:
        stacks.setdefault(block.kind, []).append(block.number)
    return "; ".join("middle" if kind == "middle" else f"{kind} {_ranges(of)}" for kind, of in stacks.items())


def _ranges(numbers: list[int]) -> str:
    whole = len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]}-{numbers[-1]}" if whole else ", ".join(map(str, numbers))
