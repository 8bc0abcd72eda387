"""Two sources as one: examples of a few labels, and others that all get one more."""

import hashlib
from functools import cached_property

import torch
from torch import Tensor

from ..errors import GuidanceError
from ..frozen import frozen
from .sources import Source


@frozen(eq=False)
class AgainstOthers:
    """The examples of a source, one label each of `classes`, and those of another, all of the label `classes`.

    Raises GuidanceError where their shapes differ, or an example has no one label.
    """

    examples: Source
    others: Source
    classes: int

    def __post_init__(self) -> None:
        if self.examples.labels.ndim != 1 or self.examples.labels.is_floating_point():
            raise GuidanceError("Negatives are set against pictures of one label each, not against tags or scores.")
        if self.examples.shape != self.others.shape:
            raise GuidanceError(
                f"Examples and negatives must have one shape: the examples have {list(self.examples.shape)}, the "
                f"negatives {list(self.others.shape)}."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.examples.shape

    @cached_property
    def labels(self) -> Tensor:
        return torch.cat([self.examples.labels, torch.full((len(self.others),), self.classes)])

    @cached_property
    def groups(self) -> Tensor:
        theirs = self.examples.groups.unique(return_inverse=True)[1]
        return torch.cat([theirs, len(self.examples) + self.others.groups.unique(return_inverse=True)[1]])

    def __len__(self) -> int:
        return len(self.examples) + len(self.others)

    def load(self, indices: Tensor) -> Tensor:
        ours = indices < len(self.examples)
        x0 = torch.empty((len(indices), *self.shape))
        x0[ours] = self.examples.load(indices[ours]).cpu()
        x0[~ours] = self.others.load(indices[~ours] - len(self.examples)).cpu()
        return x0

    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.examples.fingerprint(), self.others.fingerprint())).encode()).hexdigest()
