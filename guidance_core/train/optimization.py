"""One step of an optimizer, its learning rate, and the running average (EMA) of the weights, under autograd."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..distributed import Process


def warm_up_and_cosine(step: int, steps: int) -> float:
    """Factor on the learning rate at step 1..steps: a linear rise over the first 5 %, then half a cosine to 0."""
    return min(1.0, step / max(1, steps // 20)) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))


def optimizer_step(
    optimizer: torch.optim.Optimizer,
    loss: Tensor | Iterable[Tensor],
    learning_rate: float,
    scaler: torch.amp.GradScaler | None = None,
    process: Process | None = None,
) -> None:
    """One optimizer step at a learning rate, the gradient (added up over the processes) clipped to the norm 1.

    loss: or its summands, of which each is let go before the next is computed. Gradients of several, or of several
    processes, are added in double precision, whose sum is the same in any order.
    """
    scaler, process, several = scaler or torch.amp.GradScaler("cuda", enabled=False), process or Process(), False
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    whole: Tensor | None = None
    for part in [loss] if isinstance(loss, Tensor) else loss:
        if several:
            whole = _added(parameters, whole)
        optimizer.zero_grad(set_to_none=True)  # not before the loss is there: the allocator would give all memory back
        scaler.scale(part).backward()
        several = True
    if whole is not None or process.world_size > 1:
        _give_back(process.all_reduce(_added(parameters, whole)), parameters)
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(parameters, 1.0)
    scaler.step(optimizer)
    scaler.update()


def summing(device: torch.device) -> torch.dtype:
    """In which the order of a sum does not show; Apple's GPUs have single precision only."""
    return torch.float32 if device.type == "mps" else torch.float64


def _added(parameters: list[nn.Parameter], to: Tensor | None) -> Tensor:
    """The gradients, one after the other, added to what is there."""
    grads = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
    grads = grads.to(summing(grads.device))
    return grads if to is None else to.add_(grads)


def _give_back(whole: Tensor, parameters: list[nn.Parameter]) -> None:
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for grad, part in zip(grads, whole.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


@torch.no_grad()
def update_ema(average: Iterable[Tensor], weights: Iterable[Tensor], decay: float, step: int) -> None:
    """Move the running average of a network's weights towards them; early on it follows faster (short runs)."""
    decay = min(decay, step / (step + 9))
    torch._foreach_lerp_(list(average), list(weights), 1 - decay)


@contextmanager
def learning() -> Iterator[None]:
    """Autograd on, around each piece of work: a generator must not leave the modes changed while it is suspended."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
