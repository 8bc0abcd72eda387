"""From a tar of pictures to a judged classifier, in launches of any number of processes that may be killed."""

import csv
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from guidance_core.classifier.noisy import NoisyClassifier

from .host import ROOT

CLASSES = ("circle", "cross", "square", "stripes")


def make_tar(file: Path, count: int, side: int = 16, seed: int = 0) -> None:
    """Small pictures of four shapes in random colours and places, in WebDataset's layout; one of them is broken."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    with tarfile.open(file, "w") as tar:
        for number in range(count):
            kind, size = number % 4, side / 4
            y, x = random.uniform(size, side - size, 2)
            shape = (
                np.hypot(rows - y, columns - x) < size,
                np.minimum(abs(rows - y), abs(columns - x)) < 1,
                np.maximum(abs(rows - y), abs(columns - x)) < size,
                (rows + columns + int(x)) % 4 < 2,
            )[kind]
            back, front = random.integers(0, 100, 3), random.integers(156, 256, 3)
            pixels = np.where(shape[..., None], front, back) + random.normal(0, 20, (side, side, 3))
            stream = io.BytesIO()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG", compress_level=1)
            image = b"broken" if number == 7 else stream.getvalue()
            for ending, content in (("png", image), ("cls", CLASSES[kind].encode())):
                entry = tarfile.TarInfo(f"{number:07d}.{ending}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


@dataclass(frozen=True)
class Launch:
    """`agents` torchruns of `processes` each, as on so many machines; one plain process where both are 1.

    restarts: how often torchrun may restart processes that have ended badly.
    """

    processes: int = 1
    agents: int = 1
    restarts: int = 0

    def start(self, *command: object) -> list[subprocess.Popen]:
        """Start `python ...` in every process; each agent is one Popen."""
        words = [str(word) for word in command]
        surroundings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        if sys.platform == "linux":
            surroundings["GLOO_SOCKET_IFNAME"] = "lo"
        if self.agents > 1 and self.restarts:
            surroundings["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # see guidance_core.distributed
        launcher: list[str] = []
        if self.processes * self.agents > 1:
            launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(self.processes)]
            launcher += ["--nnodes", str(self.agents), "--rdzv-backend", "c10d", "--rdzv-id", "pipeline"]
            launcher += ["--max-restarts", str(self.restarts)]
            launcher += ["--rdzv-endpoint", f"localhost:{_free_port()}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        line = [sys.executable, *launcher, *words]
        return [subprocess.Popen(line, cwd=ROOT, env=surroundings, **pipes) for _ in range(self.agents)]

    def run(self, *command: object) -> str:
        """Run to the end; what was said. Raises RuntimeError where it failed."""
        return _said(self.start(*command))

    def lose(self, rank: int, when: Callable[[], bool], *command: object) -> str:
        """Start, kill the process of this rank when that is so, and let torchrun restart it; what was said.

        Raises RuntimeError where it failed, or ended before.
        """
        started, lost = self.start(*command), list[int]()
        while not lost and all(each.poll() is None for each in started):
            time.sleep(0.01)
            if when():
                children = [child for each in started for child in family(each.pid) if _parent(child) == each.pid]
                lost = [child for child in children if _rank(child) == str(rank)]
        _signal(lost, signal.SIGKILL)
        said = _said(started)
        if not lost:
            raise RuntimeError(f"It ended before its process of rank {rank} was killed.\n{said}")
        return said

    def kill(self, when: Callable[[], bool], *command: object) -> bool:
        """Start, and kill every process of it when that is so; whether it was still running."""
        started = self.start(*command)
        while all(each.poll() is None for each in started) and not when():
            time.sleep(0.01)
        running = all(each.poll() is None for each in started)
        stopped: list[int] = []
        while new := {child for each in started for child in family(each.pid)}.difference(stopped):
            stopped += new  # until none is left that could start another, which nobody would know
            _signal(new, signal.SIGSTOP)
        _signal(stopped, signal.SIGKILL)
        for each in started:
            each.communicate()
        return running


def family(pid: int) -> list[int]:
    """A process and all that it has started, by /proc."""
    parents = {int(entry.name): _parent(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _parent(pid: int) -> int:
    """0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _rank(pid: int) -> str | None:
    """What torchrun has told it."""
    try:
        surroundings = Path(f"/proc/{pid}/environ").read_text().split("\0")
    except OSError:
        return None
    return next((entry[5:] for entry in surroundings if entry.startswith("RANK=")), None)


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _said(started: Sequence[subprocess.Popen]) -> str:
    said = [each.communicate() for each in started]
    if any(each.returncode for each in started):
        raise RuntimeError("\n".join(out + err[-3000:] for out, err in said))
    return "".join(out + err for out, err in said)


@dataclass(frozen=True)
class Pipeline:
    """Three commands on one tar, into one folder; batches are computed in two pieces, for the bits of two processes."""

    tar: Path
    folder: Path
    shard_images: int
    steps: int
    batch: int
    examples: int
    hold_out: float = 0.1

    @property
    def shards(self) -> Path:
        return self.folder / "shards"

    @property
    def classifier(self) -> Path:
        return self.folder / "classifier.safetensors"

    @property
    def judged(self) -> Path:
        return self.folder / "judged.safetensors"

    @property
    def log(self) -> Path:
        return self.folder / "log.csv"

    def encode(self) -> list[object]:
        options = ["--size-px", 16, "--shard-images", self.shard_images, "--batch", 64, "--workers", 1]
        return ["encode", self.tar, "--vae", "pixels", "--out", self.shards, *options]

    def train(self) -> list[object]:
        options = ["--steps", self.steps, "--batch", self.batch, "--accumulate", 2, "--hold-out", self.hold_out]
        options += ["--buffer", 4 * self.shard_images]
        kept = ["--checkpoint-every", max(1, self.steps // 20), "--evaluate-every", max(1, self.steps // 4)]
        where = ["--out", self.classifier, "--curve", self.log, "--device", "cpu"]
        return ["train", "--shards", self.shards, "--stream", "--workers", 1, *options, *kept, *where]

    def evaluate(self) -> list[object]:
        options = ["--examples", self.examples, "--bins", 5, "--device", "cpu"]
        return ["evaluate", self.classifier, "--latents", self.shards, "--save", self.judged, *options]

    def content(self) -> dict[str, bytes]:
        """The shards and their index, without what a killed process has not finished."""
        files = [file for file in sorted(self.shards.glob("[!.]*")) if file.is_file()]
        return {file.name: file.read_bytes() for file in files}

    def curve(self) -> list[tuple[int, float]]:
        """(step, loss) of every step whose row is whole."""
        rows = self.log.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(rows)]

    def judgement(self) -> list[tuple[float, float]]:
        """(accuracy, loss) of every bin."""
        bins = NoisyClassifier.load(self.judged).record.bins
        return [(each.accuracy, each.loss) for each in bins]


def furthest(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> float:
    """The largest difference between two tables of one shape; infinite for others."""
    if [len(row) for row in a] != [len(row) for row in b]:
        return float("inf")
    return max(abs(x - y) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]
