"""A term: what is added to a guided prediction, one kind a file, found by discovery."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..params import Checked
from ..run import Run

Guidance = Callable[[Tensor, Tensor, Tensor], Tensor]  # (denoised, x, sigma [B]) -> guided denoised


@dataclass(frozen=True)
class TermEvent:
    """One call at which a term acted: the noise level, and its scale there."""

    sigma: float
    scale: float


class Term(Checked, ABC):
    """One way to add to a denoised prediction: a frozen dataclass of its parameters.

    doc: what it does to the picture, in plain words. source: paper.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    doc: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def start(self, run: Run) -> Guidance:
        """Open a run: (denoised [B, C, ...], x like it, sigma [B]) -> denoised with the term added."""
