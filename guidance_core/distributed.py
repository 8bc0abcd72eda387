"""Several processes at once: each takes its part of the work, and what they found is added up.

Training shares out every batch, and adds up the gradients.

Everything random is drawn for the whole batch, the same in every process, so that one process or many do the same sums.
The gradients are added by one plain call, not by DistributedDataParallel, which averages them: the loss of a part is
its samples' sum over the size of the *whole* batch, so that the sum over the processes is exact however unevenly the
batch divides, and the network stays the bare module that is averaged, checkpointed and saved. A batch that is cut into
parts is cut alike for any number of processes up to theirs, and the gradients of single precision are added in double,
where their order does not show: so many processes make the same bits.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from .errors import GuidanceError
from .frozen import frozen

Found = TypeVar("Found")


@frozen
class Process:
    """One process of a group of `world_size`; the first, of rank 0, writes the files.

    pieces: into which a batch is cut, of which each process computes some; as many as processes where these are more.
    """

    rank: int = 0
    world_size: int = 1
    pieces: int = 1

    def part_of(self, count: int) -> slice:
        """Its part of `count` samples: whole pieces, which differ by one sample at most."""
        pieces = self._pieces(count)
        return slice(count * pieces.start // pieces.step, count * pieces.stop // pieces.step)

    def pieces_of(self, count: int) -> list[slice]:
        """The pieces of its part of `count` samples, within that part."""
        pieces = self._pieces(count)
        ends = [count * piece // pieces.step for piece in range(pieces.start, pieces.stop + 1)]
        return [slice(start - ends[0], end - ends[0]) for start, end in pairwise(ends)]

    def _pieces(self, count: int) -> slice:
        """Of the pieces its first, its last (excluded), and how many there are in all."""
        pieces = max(min(self.pieces, count), self.world_size)
        return slice(pieces * self.rank // self.world_size, pieces * (self.rank + 1) // self.world_size, pieces)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

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
    timeout = timedelta(days=30) if patient else None
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout, **_meeting_place())
    try:
        yield device
        dist.barrier()  # no process leaves while another is still talking to it
    finally:
        dist.destroy_process_group()


def _meeting_place() -> dict[str, Any]:
    """Where torchrun's processes find each other, as arguments of init_process_group.

    torchrun keeps one store over all restarts (pytorch/pytorch#135712), in which processes would find the addresses of
    dead ones: with one agent each attempt has a part of its own. Of several agents each counts by itself.
    Raises GuidanceError where they would share a store and may restart.
    """
    surroundings = os.environ
    if surroundings.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or surroundings["TORCHELASTIC_MAX_RESTARTS"] == "0":
        return {}
    if surroundings["GROUP_WORLD_SIZE"] != "1":
        raise GuidanceError(
            "Processes on several machines can be restarted only where torchrun gives them a new meeting place each "
            "time: set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun on every machine, with --rdzv-backend "
            "c10d, or leave --max-restarts out."
        )
    server = dist.TCPStore(surroundings["MASTER_ADDR"], int(surroundings["MASTER_PORT"]), is_master=False)
    attempt = dist.PrefixStore(f"attempt {surroundings['TORCHELASTIC_RESTART_COUNT']}", server)
    return {"store": attempt, "rank": int(surroundings["RANK"]), "world_size": int(surroundings["WORLD_SIZE"])}
