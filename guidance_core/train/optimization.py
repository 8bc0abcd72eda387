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

    loss: or its summands, of which each is let go before the next is computed.
    """
    scaler = scaler or torch.amp.GradScaler("cuda", enabled=False)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    for part in [loss] if isinstance(loss, Tensor) else loss:
        scaler.scale(part).backward()
    (process or Process()).all_reduce_gradients(parameters)
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(parameters, 1.0)
    scaler.step(optimizer)
    scaler.update()


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
