"""What autograd keeps from forward to backward passes: the most bytes at one time."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn


def most_kept(run: Callable[[], object], network: nn.Module) -> int:
    """The most bytes that autograd keeps at one time while it runs, the network's weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    keepers: Counter[int] = Counter()  # of each piece of memory
    now = most = 0

    class Kept:
        """A tensor that autograd keeps until it lets go of this."""

        def __init__(self, tensor: Tensor):
            nonlocal now, most
            self.tensor = tensor
            keepers[self.place] += 1
            if keepers[self.place] == 1:
                now += self.size
                most = max(most, now)

        def __del__(self):
            nonlocal now
            keepers[self.place] -= 1
            if not keepers[self.place]:
                now -= self.size

        @property
        def place(self) -> int:
            return self.tensor.untyped_storage().data_ptr()

        @property
        def size(self) -> int:
            return 0 if self.place in weights else self.tensor.untyped_storage().nbytes()

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        run()
    return most
