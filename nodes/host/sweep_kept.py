"""The finished cells of a sweep, kept where it is stopped before its end, for when it is run again."""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...guidance_core.frozen import frozen


@frozen(eq=False)
class Finished:
    """A cell that is sampled: its latents, and the passes that ran out of those of a run that leaves none out."""

    samples: Tensor
    passes: int = 0
    expected: int = 0

    @property
    def words(self) -> str:
        return f"{self.passes} of {self.expected} passes" if self.expected else ""


_kept: WeakKeyDictionary[ModelPatcher, tuple[dict, list[Finished]]] = WeakKeyDictionary()  # one; it goes with its MODEL


@contextmanager
def finished_cells(model: ModelPatcher, inputs: dict) -> Iterator[list[Finished]]:
    """The cells that a sweep need not sample again, to which the block adds its own.

    Where the block is left by an error or by Cancel they are kept until the next sweep begins, which gets them if its
    model and inputs are the very same ones.
    """
    before, cells = _kept.get(model, ({}, []))
    cells = cells if _same(before, inputs) else []
    _kept.clear()
    _kept[model] = inputs, cells
    yield cells
    _kept.clear()


def _same(a, b) -> bool:
    """Whether two inputs are the same: numbers and texts by value, dicts by what is in them, all else by identity."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    return a is b or (isinstance(a, str | int | float) and type(a) is type(b) and a == b)
