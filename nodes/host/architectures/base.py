"""What is asked of a kind of model: its blocks, and hooks by which one attends otherwise, is skipped or shuffled."""

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
    result for other queries like q. image: which tokens are of the picture. grid: the rows and columns in which these
    lie, of a video those of a frame.
    """

    q: Tensor
    values: Tensor
    of: Callable[[Tensor], Tensor]
    image: slice
    grid: tuple[int, int]


Options = dict
Attend = Callable[[Attention], Tensor]
Enter = Callable[[Tensor, Options, int], Tensor]


class Architecture(ABC):
    """One kind of model.

    title: as its users call it. video: whether it is one of video. skips: whether its blocks can be skipped.
    """

    title: str
    video: bool = False
    skips: bool = True

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

    @abstractmethod
    def entered(self, options: Options, block: Block, enter: Enter) -> Options:
        """model_options under which a block is given other tokens of the picture.

        enter: (tokens [B, N, d], transformer_options, which of the block's layers it is) -> tokens alike.
        """
