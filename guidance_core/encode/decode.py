"""Images decoded ahead of the encoder, by worker processes, in an order that does not depend on their number."""

import hashlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..data.image_file import Size
from ..data.layouts.base import Skipped
from ..errors import GuidanceError
from ..frozen import frozen
from .samples import Sample, Samples

CHUNK = 16  # images that a worker hands over at once


@frozen(eq=False)
class Decoded:
    """An image of a unit: pixels uint8 [H, W, 3], its labels or scores, and a number that its copies share."""

    unit: int
    name: str
    pixels: np.ndarray
    labels: tuple[str, ...]
    scores: tuple[float, ...]
    group: int


@frozen
class Refused:
    """What of a unit is not used, and why."""

    unit: int
    skipped: Skipped


@frozen
class Broken:
    """Why no more can be read, as a sentence: an error raised in a worker would come as a traceback."""

    why: str


Chunk = list[Decoded | Refused] | Broken


@frozen(eq=False)
class Decoding(IterableDataset):
    """The images of some units, cut to the nearest of `sizes`, in lists of CHUNK."""

    samples: Samples
    units: Sequence[int]
    sizes: tuple[Size, ...]

    def __iter__(self) -> Iterator[Chunk]:
        """This worker's lists; a broken input ends them."""
        try:
            yield from self._own()
        except (GuidanceError, OSError) as error:
            yield Broken(str(error))

    def _own(self) -> Iterator[list[Decoded | Refused]]:
        """A sample is read before the next is looked for: its file is open only so long."""
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        turn = 0
        for unit in self.units:
            chunk: list[Decoded | Refused] = []
            for place, sample in enumerate(self.samples.read(unit)):
                if place and place % CHUNK == 0:
                    if chunk:
                        yield chunk
                    chunk, turn = [], turn + 1
                if turn % workers == number:
                    chunk.append(self._decoded(unit, sample))
            if chunk:
                yield chunk
            turn += 1

    def _decoded(self, unit: int, sample: Sample | Skipped) -> Decoded | Refused:
        if isinstance(sample, Skipped):
            return Refused(unit, sample)
        try:
            pixels = sample.read().pixels(*self.sizes).numpy()
        except GuidanceError as error:
            why = re.sub(r"^'.*?' (?=cannot )", "", str(error)).rstrip(".")
            return Refused(unit, Skipped(sample.name, why))
        group = hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=8).digest()
        number = int.from_bytes(group, "little") >> 1
        return Decoded(unit, sample.name, pixels, sample.labels, sample.scores, number)


def decoding(images: Decoding, workers: int, ahead: int = 4) -> Iterator[Decoded | Refused]:
    """Every image, in order; `workers` processes decode, each `ahead` lists before they are asked for.

    Raises GuidanceError for an input that breaks off.
    """
    for chunk in DataLoader(
        images, batch_size=None, num_workers=workers, collate_fn=_same, prefetch_factor=ahead if workers else None
    ):
        if isinstance(chunk, Broken):
            raise GuidanceError(chunk.why)
        yield from chunk


def _same(chunk):
    return chunk
