"""Null conditions: what "no condition" is for a model, and the dropout that teaches it to one."""

import torch
from torch import Tensor

from .errors import GuidanceError


def drop_condition(y: Tensor, null: Tensor | int | float, p: float, generator: torch.Generator | None = None) -> Tensor:
    """Replace the condition of each sample by `null` with probability p (conditional dropout, arXiv:2207.12598).

    y [B, ...] labels or embeddings; null: a label, or an embedding of y's shape without the batch axis. Returns a new
    tensor. The draw depends on the generator and the batch size only.
    Raises GuidanceError unless 0 <= p <= 1.
    """
    if not 0 <= p <= 1:
        raise GuidanceError(f"The dropout probability must be in [0, 1], got {p}.")
    device = generator.device if generator is not None else y.device
    dropped = torch.rand(y.shape[0], generator=generator, device=device).to(y.device) < p
    null = torch.as_tensor(null, dtype=y.dtype, device=y.device)
    return torch.where(dropped.reshape(-1, *[1] * (y.ndim - 1)), null, y)
