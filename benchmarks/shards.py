"""Encoding and training from shards against plain loops, and what grows with the number of examples."""

import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

import guidance_core as gc
from devtools.host import ROOT
from devtools.pipeline import Launch, make_tar
from guidance_core.classifier.heads import as_head
from guidance_core.classifier.latent_encoder import SIZES, LatentEncoder
from guidance_core.data.labelling import decided
from guidance_core.data.shard_writer import write_index, write_shard
from guidance_core.data.shards import ShardSource
from guidance_core.data.stream import ShardStream
from guidance_core.demo import emoji
from guidance_core.distributed import Process
from guidance_core.encode.encoding import Encoding
from guidance_core.encode.record import Records
from guidance_core.encode.tars import TarSamples, scan_tar
from guidance_core.encode.vae import encoder_of
from guidance_core.progress import run_to_end

from .measure import Row, Spread, Target, interleaved, ratio

TITLE = "Shards"
INTRO = (
    "Encoding a tar by the emoji demo's VAE, and training from a stream of shards, against the loops that one would "
    "write around the same networks with PyTorch's DataLoader; one worker each. Growth: throughput "
    "by workers and processes, on the cores there are; peak memory of a fresh process that trains on a stream, and "
    "opening its index."
)
NAMES = ["even", "odd"]


def entries(quick: bool) -> Iterator[Row]:
    """Encoding, training, throughput, memory, opening."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        yield _encoding(folder, *(64, 1) if quick else (256, 7))
        yield _training(folder, *(3, 1) if quick else (120, 7))
        yield from _throughput(folder, *(3, 1) if quick else (60, 3))
        yield _memory(folder, *(4, 40) if quick else (5, 4883))
        yield from _opening(folder, (10, 100) if quick else (1000, 10_000, 100_000))


class _Images(IterableDataset):
    """The pictures of a tar, streamed, as one would write it."""

    def __init__(self, file: Path):
        self.file = file

    def __iter__(self):
        label, picture = {b"circle": 0, b"cross": 1, b"square": 2, b"stripes": 3}, None
        with tarfile.open(self.file, "r|") as tar:
            for member in tar:
                content = tar.extractfile(member).read()
                if member.name.endswith(".png"):
                    picture = content
                elif picture != b"broken":
                    image = Image.open(io.BytesIO(picture)).convert("RGB").resize((64, 64), Image.Resampling.LANCZOS)
                    yield torch.from_numpy(np.array(image)), label[content]


def _encoding(folder: Path, count: int, rounds: int) -> Row:
    tar, turn = folder / "pictures.tar", iter(range(1000))
    make_tar(tar, count)
    encoder, demo = encoder_of("emoji"), emoji.load()

    def ours():
        samples = TarSamples((tar,), (scan_tar(tar, 2048),))
        records = Records(folder / f"ours-{next(turn)}")
        encoding = Encoding(samples, decided(samples.tally, 1), encoder, ((64, 64),), records, workers=1)
        encoding.records.agree(encoding.plan, write=True)
        run_to_end(encoding.run(encoding.to_do(), Process(), records.launch()))
        encoding.finish()

    @torch.inference_mode()
    def plain():
        latents, labels = [], []
        for pixels, label in DataLoader(_Images(tar), batch_size=8, num_workers=1, prefetch_factor=4):
            latents.append(demo.encode(pixels.permute(0, 3, 1, 2).float() / 255).half().contiguous())
            labels.append(label)
        save_file({"latents": torch.cat(latents), "labels": torch.cat(labels)}, folder / "plain.safetensors")

    a, b = interleaved(ours, plain, rounds=rounds)
    speeds = f"{count / Spread.of(a).median:.4g} and {count / Spread.of(b).median:.4g} pictures/s; {rounds} rounds"
    return Row("encode: time, ours / plain", ratio(a, b), "", Target(high=1 / 0.97), speeds, (ours, plain))


class _Rows(Dataset):
    """The latents of a folder of shards, batch by batch."""

    def __init__(self, source: ShardSource):
        self.source = source

    def __getitem__(self, indices):
        chosen = torch.tensor(indices)
        return self.source.load(chosen), self.source.labels[chosen]


def _training(folder: Path, steps: int, rounds: int) -> Row:
    place = _shards(folder / "train", 8, 1024, (4, 16, 16))

    def ours():
        stream = ShardStream.open(place, workers=1)
        for _ in gc.train_classifier(stream, label_names=NAMES, steps=steps, batch=64):
            pass

    def plain():
        source = ShardSource.open(place)
        network = LatentEncoder(4, 2, **SIZES["small"]).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
        batches = torch.randperm(len(source)).split(64)[:steps]
        sampler = [batch.tolist() for batch in batches]
        for x0, y in DataLoader(_Rows(source), batch_size=None, sampler=sampler, num_workers=1, prefetch_factor=4):
            log_snr = torch.rand(len(x0)) * 20 - 10
            signal = log_snr.sigmoid().sqrt()[:, None, None, None]
            x = signal * x0 + (1 - signal**2).sqrt() * torch.randn(x0.shape)
            loss = nn.functional.cross_entropy(network(x, log_snr), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    a, b = interleaved(ours, plain, rounds=rounds)
    made = f"small network, 4x16x16; {steps * 64 / Spread.of(a).median:.4g} latents/s; {steps} steps, {rounds} rounds"
    name = "train from a stream: time, ours / plain loop with a DataLoader"
    return Row(name, ratio(a, b), "", Target(high=1.02), made, (ours, plain))


def _shards(folder: Path, count: int, rows: int, shape: tuple[int, ...]) -> Path:
    """A folder of so many shards; all are one file under many names."""
    labels = torch.arange(rows) % 2
    latents = torch.randn(rows, *shape, generator=torch.Generator().manual_seed(0)).half()
    entry = write_shard(folder / "0.safetensors", latents, labels, torch.arange(rows))
    for number in range(1, count):
        (folder / f"{number}.safetensors").symlink_to("0.safetensors")
    entries = [entry | {"file": f"{number}.safetensors"} for number in range(count)]
    write_index(folder, NAMES, as_head("single"), "", list(shape), entries, occurrences=[count * rows // 2] * 2)
    return folder


PACE = """
import sys, time, torch
import guidance_core as gc
from guidance_core.data.stream import ShardStream
from guidance_core.distributed import launched, this_process
torch.set_num_threads(1)
place, workers, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with launched():
    stream = ShardStream.open(place, workers=workers)
    for step in gc.train_classifier(stream, label_names=["even", "odd"], steps=10**6, batch=64, device="cpu"):
        if step.step == 5:
            began = time.perf_counter()
        if step.step == 5 + count:
            break
    if this_process().rank == 0:
        print("pace", 64 * count / (time.perf_counter() - began), flush=True)
"""


def _throughput(folder: Path, steps: int, rounds: int) -> Iterator[Row]:
    """Latents a second by workers of one process, and by processes with one worker each, in turn."""
    place, script = _shards(folder / "pace", 8, 1024, (4, 16, 16)), folder / "pace.py"
    script.write_text(PACE)
    ways = [(1, 0), (1, 1), (1, 2), (2, 1)]
    paces: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for processes, workers in ways:
            said = Launch(processes).run(script, place, workers, steps)
            paces[processes, workers].append(float(re.search(r"pace ([\d.]+)", said)[1]))
    for (processes, workers), found in paces.items():
        name = f"train from a stream: {processes} process{'es' if processes > 1 else ''}, {workers} workers each"
        made = f"small network, 4x16x16, batch 64 in all, one thread each; {steps} steps, {rounds} rounds"
        yield Row(name, Spread.of(found), "latents/s", None, made)


CHILD = """
import sys, torch
import guidance_core as gc
from guidance_core.data.stream import ShardStream
torch.set_num_threads(1)
stream = ShardStream.open(sys.argv[1])
steps = gc.train_classifier(stream, label_names=["even", "odd"], steps=10**6, batch=64, hold_out=0.1)
for step in steps:
    if step.step == 30:
        break
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")))
"""


def _memory(folder: Path, few: int, many: int) -> Row:
    peaks = []
    for count in (few, many):
        place = _shards(folder / f"memory-{count}", count, 2048, (4, 8, 8))
        done = subprocess.run([sys.executable, "-c", CHILD, str(place)], cwd=ROOT, capture_output=True, text=True)
        peaks.append(float(done.stdout))
    name = f"peak memory of training on {many * 2048:,} examples above that on {few * 2048:,}"
    made = f"{peaks[1]:.0f} and {peaks[0]:.0f} MB, PyTorch included; a buffer of 65,536 examples"
    return Row(name, Spread.of([peaks[1] - peaks[0]]), "MB", Target(high=50), made)


def _opening(folder: Path, counts: tuple[int, ...]) -> Iterator[Row]:
    for count in counts:
        place = folder / f"index-{count}"
        entry = {"count": 2048, "hash": "0" * 64}
        entries = [entry | {"file": f"shard-{number:06d}-0.safetensors"} for number in range(count)]
        write_index(place, NAMES, as_head("single"), "", [4, 64, 64], entries, occurrences=[count * 1024] * 2)
        times = []
        for _ in range(3):
            began = perf_counter()
            ShardStream.open(place)
            times.append(perf_counter() - began)
        size = (place / "index.json").stat().st_size / 2**20
        made = f"{count * 2048:,} examples; the index has {size:.2f} MiB; no shard is opened"
        yield Row(f"opening {count:,} shards", Spread.of(times), "s", None, made)
