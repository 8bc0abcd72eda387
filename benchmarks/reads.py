"""How often the host reads numbers out of a tensor: on a GPU each of these waits until all work before it is done."""

from collections.abc import Callable

from torch.overrides import TorchFunctionMode

READING = frozenset(
    ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "cpu", "numpy", "nonzero", "equal", "allclose")
)


class Reads(TorchFunctionMode):
    """Counts them, within a `with` block."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += getattr(func, "__name__", "") in READING
        return func(*args, **(kwargs or {}))


def reads_in_a_step(run: Callable[[int], object], few: int = 4, many: int = 24) -> float:
    """Of a run of so many steps, those at its start and end left out."""
    counts = []
    for steps in (few, many):
        with Reads() as reads:
            run(steps)
        counts.append(reads.count)
    return (counts[1] - counts[0]) / (many - few)
