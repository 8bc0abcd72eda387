"""Where training examples come from: labelled latents that are loaded by number, from memory or from disk."""

import hashlib
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ..errors import GuidanceError
from ..frozen import frozen


class Source(Protocol):
    """Labelled latents of one shape, numbered 0 to N - 1. The same number always gives the same latent and label.

    A source keeps no position and draws nothing: which examples are drawn, in what order, and which are held out, the
    training decides, so that a run can stop and go on later, and several processes can each load their share.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one latent: (C, H, W), or (C, T, H, W) for video."""

    @property
    def labels(self) -> Tensor:
        """The labels of all examples, on the CPU.

        Head "single": long [N], indices into the label names. Head "multi": bool or float [N, K], 1 where the example
        has the label. Head "regression": float [N, K], one column of raw scores for each score name.
        """

    @property
    def groups(self) -> Tensor:
        """long [N] on the CPU: examples of one number show one picture (copies, crops, flips of it).

        They stay together when a part is held out. A source that knows of no copies returns torch.arange(N).
        """

    def __len__(self) -> int:
        """How many examples there are, N."""

    def load(self, indices: Tensor) -> Tensor:
        """x0 float32 [n, *shape] of the examples `indices` (long [n] on the CPU), in that order; some may come twice.

        In the sampler's scale (after the model's latent scale and shift). On any device: the training moves them.
        """

    def fingerprint(self) -> str:
        """A short text that changes with any latent, label or group. Asked for once."""


@frozen(eq=False)
class TensorSource:
    """Latents [N, C, H, W] or [N, C, T, H, W] in memory, on any device, with their labels (see Source.labels).

    same_picture: long [N], where it is known which examples show one picture; identical latents are always one group.
    Raises GuidanceError for other shapes, or counts that differ.
    """

    latents: Tensor
    targets: Tensor
    same_picture: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.latents) if self.latents.ndim else 0
        if self.latents.ndim not in (4, 5):
            raise GuidanceError(f"Latents must be [N, C, H, W] or [N, C, T, H, W], got {list(self.latents.shape)}.")
        if self.targets.ndim not in (1, 2) or len(self.targets) != count:
            raise GuidanceError(
                f"Every latent needs one label: got {count} latents and labels of shape {list(self.targets.shape)}."
            )
        if self.same_picture is not None and self.same_picture.shape != (count,):
            raise GuidanceError(
                f"Every latent needs one group: got {count} latents and groups of shape "
                f"{list(self.same_picture.shape)}."
            )

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.latents.shape[1:])

    @property
    def labels(self) -> Tensor:
        return self.targets.cpu()

    @cached_property
    def groups(self) -> Tensor:
        given = range(len(self)) if self.same_picture is None else self.same_picture.tolist()
        return joined(given, self._digests)

    def load(self, indices: Tensor) -> Tensor:
        return self.latents[indices.to(self.latents.device)].float()

    def fingerprint(self) -> str:
        whole = hashlib.blake2b(b"".join(self._digests), digest_size=16)
        for tensor in (self.labels, self.groups):
            whole.update(_bytes(tensor))
        return whole.hexdigest()

    @cached_property
    def _digests(self) -> list[bytes]:
        return [hashlib.blake2b(_bytes(latent), digest_size=16).digest() for latent in self.latents]


def joined(groups: Sequence[Hashable], others: Sequence[Hashable]) -> Tensor:
    """The finest grouping, long [N], that keeps together what either grouping, one value an example, does."""
    parent = list(range(len(others)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for grouping in (groups, others):
        first: dict = {}
        for i, group in enumerate(grouping):
            parent[root(i)] = root(first.setdefault(group, i))
    return torch.tensor([root(i) for i in range(len(parent))], dtype=torch.long)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
