"""One training loop for every part: AdamW, a running average of the weights, and a state that survives interruption."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from ...files import read_tensors, write_tensors
from ...frozen import frozen
from ...train.optimization import optimizer_step, update_ema

half = partial(torch.autocast, "cpu", torch.bfloat16)
"""In `with half():` a network in training multiplies in half precision, half again as fast on new processors."""
FORMAT = "guidance-kit-emoji-training"
KEEP_SECONDS = 60.0


@frozen
class Plan:
    """How a part is trained: warm-up, then a constant rate, then down to zero over the last `cooling` of the steps."""

    steps: int
    learning_rate: float
    seed: int
    weight_decay: float = 0.01
    warm_up: int = 200
    cooling: float = 0.25
    ema: float = 0.9995

    def rate(self, step: int) -> float:
        left = (self.steps - step + 1) / (self.cooling * self.steps)
        return self.learning_rate * min(1.0, step / self.warm_up, max(left, 0.0))


@frozen
class FitStep:
    """A finished step; seconds: spent on all steps so far, interruptions left out."""

    step: int
    loss: float
    seconds: float


N = TypeVar("N", bound=nn.Module)


class Fit(Generic[N]):
    """A network in training with its average, optimizer and generator, kept in a file between calls."""

    def __init__(self, network: N, plan: Plan, file: Path):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network, self.plan, self.file = network, plan, file
        self.average = copy.deepcopy(network).requires_grad_(False).eval()
        for module in network.modules():  # norms are slower in half precision, and less exact
            if isinstance(module, nn.GroupNorm):
                module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
        self.optimizer = torch.optim.AdamW(network.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
        self.generator = torch.Generator().manual_seed(plan.seed)
        self.step, self.seconds = 0, 0.0
        if file.is_file():
            self._restore()

    def run(self, loss_of: Callable[[N, torch.Generator], Tensor]) -> Iterator[FitStep]:
        """Descend loss_of(network, generator) for the steps that are left; the state is written every minute."""
        kept = last = time.monotonic()
        while self.step < self.plan.steps:
            self.step += 1
            loss = loss_of(self.network, self.generator)
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"The loss is {loss.item()} at step {self.step}.")
            optimizer_step(self.optimizer, loss, self.plan.rate(self.step))
            update_ema(self.average.parameters(), self.network.parameters(), self.plan.ema, self.step + 1)
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            if now - kept > KEEP_SECONDS or self.step == self.plan.steps:
                self.keep()
                kept = now
            yield FitStep(self.step, loss.item(), self.seconds)

    def keep(self) -> None:
        """Write the state whole or not at all."""
        tensors = {f"network.{name}": t for name, t in self.network.state_dict().items()}
        tensors |= {f"average.{name}": t for name, t in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": t for name, t in state.items()}
        tensors["generator"] = self.generator.get_state()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"format": FORMAT, "step": str(self.step), "seconds": str(self.seconds)}
        write_tensors(self.file, tensors, metadata)

    def _restore(self) -> None:
        metadata, tensors = read_tensors(self.file, "training state", FORMAT)
        for kind in ("network", "average"):
            getattr(self, kind).load_state_dict(_under(tensors, kind))
        description = self.optimizer.state_dict()
        for name, tensor in _under(tensors, "optimizer").items():
            index, key = name.split(".")
            description["state"].setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict(description)
        self.generator.set_state(tensors["generator"])
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])


def _under(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `kind.`, without it."""
    return {name.removeprefix(f"{kind}."): t for name, t in tensors.items() if name.startswith(f"{kind}.")}
