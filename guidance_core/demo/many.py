"""Many digits, written as they come: parts that do not depend on how many processes there are, or on what broke off."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..distributed import Process
from ..files import read_header, read_tensors, write_tensors
from ..frozen import frozen
from ..progress import Progress, Work
from ..sampling import sample
from ..work_folder import WorkFolder
from . import Demo

PART = 250
FORMAT = "guidance-kit.samples"
GOLDEN = 0x9E3779B97F4A7C15  # between the seeds of two parts


@frozen(eq=False)
class ManyDigits:
    """`count` digits for a folder, PART a file: images [n, 16, 16], the judge's features [n, 64], what it reads [n].

    guided: how many -> the denoiser of so many. sigmas, sampler, seed: see sampling.sample.
    """

    demo: Demo
    guided: Callable[[int], Denoiser]
    sigmas: Tensor
    sampler: str
    seed: int
    count: int
    work: WorkFolder

    @property
    def parts(self) -> int:
        return -(-self.count // PART)

    def to_do(self) -> list[int]:
        """The parts that are not there. To be asked once and shared, before any process begins to write some."""
        return [part for part in range(self.parts) if not self._file(part).is_file()]

    def run(self, to_do: list[int], process: Process, launch: str) -> Work[None]:
        """Draw this process's share of these parts; raises GuidanceError for what cannot be written."""
        own = to_do[process.rank :: process.world_size]
        for done, part in enumerate(own, 1):
            images = self._draw(part)
            tensors = {
                "images": images.mul(255).round().byte(),
                "features": self.demo.judge.features(images),
                "read": self.demo.judge(images).argmax(1),
            }
            self.work.check(launch)
            write_tensors(self._file(part), tensors, {"format": FORMAT})
            yield Progress(done, len(own))

    def read(self) -> Tensor:
        """How often the judge read each digit in all of them, long [10]."""
        counts = torch.zeros(len(self.demo.labels), dtype=torch.long)
        for part in range(self.parts):
            file = self._file(part)
            read_header(file, "samples", FORMAT)
            counts += read_tensors(file, "samples", FORMAT, only=("read",))[1]["read"].bincount(minlength=len(counts))
        return counts

    @torch.no_grad()
    def _draw(self, part: int) -> Tensor:
        """The images of a part, [n, 16, 16] in [0, 1]."""
        seed = (self.seed + part * GOLDEN) % 2**63
        generator = torch.Generator().manual_seed(seed)
        count = min(PART, self.count - part * PART)
        noise = torch.randn(count, *self.demo.shape, generator=generator)
        guided, levels = self.guided(count), self.demo.sigmas
        x0 = sample(guided, noise, self.sigmas, self.sampler, generator, seed=seed, training_sigmas=levels)
        return self.demo.to_image(x0)

    def _file(self, part: int) -> Path:
        return self.work.out / f"samples-{part:05d}.safetensors"
