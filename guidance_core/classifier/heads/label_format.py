"""How the labels of examples are kept: one index an example, or a column of numbers for each label name."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor


class LabelFormat(ABC):
    """One way to keep the labels of N examples among K names.

    dtype: as they are kept. additive: an example says all about labels that are added later: it has none of them.
    """

    dtype: ClassVar[torch.dtype]
    additive: ClassVar[bool]

    @abstractmethod
    def shape(self, count: int, classes: int) -> tuple[int, ...]:
        """Of the labels of so many examples."""

    @abstractmethod
    def fault(self, labels: Tensor, names: Sequence[str]) -> str:
        """What labels as users have them would have to be, in words ("needs ..."); "" where they are."""

    @abstractmethod
    def needs_of_one(self, classes: int) -> str:
        """What the label of one latent must be, in words."""

    @abstractmethod
    def kept(self, labels: Tensor) -> Tensor:
        """Labels that fit, in dtype and shape as they are kept."""

    @abstractmethod
    def of_names(self, said: Sequence[Sequence[str]], names: Sequence[str]) -> Tensor:
        """The labels of examples of which the names of their labels are known."""

    @abstractmethod
    def renamed(self, labels: Tensor, places: Sequence[int], classes: int) -> Tensor:
        """The same labels among `classes` other names, each of the old ones being at places[i]."""


class Indices(LabelFormat):
    """long [N], indices into the names."""

    dtype = torch.long
    additive = True

    def shape(self, count, classes):
        return (count,)

    def fault(self, labels, names):
        whole = labels.ndim == 1 and not labels.is_floating_point()
        if whole and bool(((labels >= 0) & (labels < len(names))).all()):
            return ""
        return f"needs one label a latent, a whole number from 0 to {len(names) - 1}"

    def needs_of_one(self, classes):
        return f"one whole number from 0 to {classes - 1}"

    def kept(self, labels):
        return labels.long()

    def of_names(self, said, names):
        return torch.tensor([names.index(labels[0]) for labels in said])

    def renamed(self, labels, places, classes):
        return labels.new_tensor(places)[labels]


class Columns(LabelFormat):
    """float [N, K], a column for each name; [N] where there is one name only."""

    dtype = torch.float32
    additive = False

    def shape(self, count, classes):
        return (count, classes)

    def fault(self, labels, names):
        columns = 1 if labels.ndim == 1 else labels.shape[-1]
        if labels.ndim in (1, 2) and columns == len(names):
            return ""
        return f"needs {len(names)} columns of labels, one for each of {', '.join(names[:20])}; got {columns}"

    def needs_of_one(self, classes):
        return f"{classes} numbers"

    def kept(self, labels):
        return labels.reshape(len(labels), -1).float()

    def of_names(self, said, names):
        return torch.tensor([[float(name in labels) for name in names] for labels in said])

    def renamed(self, labels, places, classes):
        changed = labels.new_zeros(len(labels), classes)
        changed[:, list(places)] = labels.reshape(len(labels), -1)
        return changed


INDICES, COLUMNS = Indices(), Columns()
