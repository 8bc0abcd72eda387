"""Null conditions: what "no condition" is for a model, and the dropout that teaches it to one."""

import os

import torch
from torch import Tensor

from .errors import GuidanceError
from .files import DTYPES, read_tensors, write_tensors
from .frozen import frozen

FORMAT = "guidance-kit.null-condition"


@frozen(eq=False)
class NullCondition:
    """A null condition learned in training: cond [1, tokens, width], and pooled [1, width] where a model has one."""

    cond: Tensor
    pooled: Tensor | None = None

    def save(self, file: str | os.PathLike) -> None:
        """Write a safetensors file, whole or not at all."""
        tensors = {"cond": self.cond} | ({} if self.pooled is None else {"pooled_output": self.pooled})
        write_tensors(file, tensors, {"format": FORMAT})


def load_null_condition(file: str | os.PathLike) -> NullCondition:
    """Read a learned null condition. Raises GuidanceError with what is wrong with the file."""
    metadata, tensors = read_tensors(file, "null condition", FORMAT)
    cond, pooled, name = tensors.get("cond"), tensors.get("pooled_output"), os.path.basename(file)
    if cond is None or cond.ndim != 3 or len(cond) != 1 or not cond.numel():
        raise GuidanceError(f"'{name}' holds no tensor 'cond' of shape [1, tokens, width].")
    if pooled is not None and (pooled.ndim != 2 or len(pooled) != 1 or not pooled.numel()):
        raise GuidanceError(f"'{name}' holds a 'pooled_output' of shape {list(pooled.shape)}, it must be [1, width].")
    for key, tensor in (("cond", cond), ("pooled_output", pooled)):
        if tensor is None:
            continue
        real = tensor.is_floating_point() and tensor.dtype in DTYPES  # numbers of eight bits cannot be looked at
        if not (real and bool(tensor.isfinite().all())):
            raise GuidanceError(f"'{name}' holds a '{key}' that is not finite real numbers: learn or convert it anew.")
    return NullCondition(cond, pooled)


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
