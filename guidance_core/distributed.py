"""Several processes at once: each takes its part of the work, and what they found is added up.

Training shares out every batch, and adds up the gradients.

Everything random is drawn for the whole batch, the same in every process, so that one process or many do the same sums.
The gradients are added by one plain call, not by DistributedDataParallel, which averages them: the loss of a part is
its samples' sum over the size of the *whole* batch, so that the sum over the processes is exact however unevenly the
batch divides, and the network stays the bare module that is averaged, checkpointed and saved.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from .frozen import frozen

Found = TypeVar("Found")


@frozen
class Process:
    """One process of a group of `world_size`; the first, of rank 0, writes the files."""

    rank: int = 0
    world_size: int = 1

    def part_of(self, count: int) -> slice:
        """Its part of `count` samples; the parts differ by one sample at most."""
        return slice(count * self.rank // self.world_size, count * (self.rank + 1) // self.world_size)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make every gradient its sum over the processes, in one exchange."""
        if self.world_size > 1:
            grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
            whole = self.all_reduce(torch.cat([grad.flatten() for grad in grads]))
            for grad, part in zip(grads, whole.split([grad.numel() for grad in grads]), strict=True):
                grad.copy_(part.view_as(grad))

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.world_size > 1:
            dist.barrier()

    def agreed(self, find: Callable[[], Found]) -> Found:
        """What the first process found, in every process."""
        said: list[Any] = [find() if self.rank == 0 else None]
        if self.world_size > 1:
            dist.broadcast_object_list(said)
        return said[0]

    def largest(self, value: int, device: torch.device | str) -> int:
        """The largest of the processes' numbers."""
        found = torch.tensor(value, device=device)
        if self.world_size > 1:
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def all_equal(self, value: int, device: torch.device) -> bool:
        """Whether every process has the same number here."""
        ends = torch.tensor([value, -value], device=device)
        if self.world_size > 1:
            dist.all_reduce(ends, dist.ReduceOp.MAX)
        return ends.tolist() == [value, -value]


def this_process() -> Process:
    """This process: the only one, unless a process group was joined."""
    if dist.is_available() and dist.is_initialized():
        return Process(dist.get_rank(), dist.get_world_size())
    return Process()


@contextmanager
def launched(patient: bool = False) -> Iterator[torch.device | None]:
    """Join the group of processes that torchrun started, and leave it in the end; yields this process's device.

    Outside of torchrun nothing is joined and the device is None: the caller's choice. A group that is joined already is
    used and not left. patient: processes may wait for each other for days, as after shares of unequal work.
    """
    if "LOCAL_RANK" not in os.environ:
        yield None
        return
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    if dist.is_initialized():
        yield device
        return
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", timeout=timedelta(days=30) if patient else None
    )
    try:
        yield device
        dist.barrier()  # no process leaves while another is still talking to it
    finally:
        dist.destroy_process_group()
