"""What is asked of a kind of model: its blocks, and hooks by which one attends in another way or is skipped."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from ....guidance_core.frozen import frozen


@frozen
class Block:
    """One block of a model: the kind it is of, as ComfyUI numbers them, and its number."""

    kind: str
    number: int

    def __str__(self) -> str:
        return self.kind if self.kind == "middle" else f"{self.kind} {self.number}"


@frozen
class Attention:
    """A self-attention that is about to run.

    q: [B, N, heads * d] or [B, heads, N, d], N tokens. values: its values as if they were its result. of: q -> its
    result for other queries like q. image: which tokens are of the picture, None where that is not known. grid: their
    rows and columns, where known.
    """

    q: Tensor
    values: Tensor
    of: Callable[[Tensor], Tensor]
    image: slice | None = None
    grid: tuple[int, int] | None = None


Attend = Callable[[Attention], Tensor]
Options = dict


class Architecture(ABC):
    """One kind of model.

    title: as its users call it. video: whether it is one of video. skips: whether its blocks can be skipped. places:
    whether it is known which tokens of an attention are of the picture. grid: and in which rows and columns they lie.
    """

    title: str
    video: bool = False
    skips: bool = True
    places: bool = True
    grid: bool = False

    @abstractmethod
    def knows(self, network: nn.Module) -> bool:
        """Whether this network is of its kind."""

    @abstractmethod
    def blocks(self, network: nn.Module) -> list[Block]:
        """Its blocks with self-attention, from the first to the last."""

    @abstractmethod
    def attended(self, options: Options, block: Block, attend: Attend) -> Options:
        """model_options under which the self-attention of a block is what attend makes of it."""

    @abstractmethod
    def skipped(self, options: Options, block: Block, when: Callable[[Options], bool]) -> Options:
        """model_options under which a block is skipped where when(transformer_options) holds; see `skips`."""
