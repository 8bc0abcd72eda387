"""Encoding labelled images into latent shards: the same shards for any number of processes, and after any break."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from ..data.image_file import Size
from ..data.labelling import Labelling
from ..data.layouts.base import Skipped
from ..data.shard_writer import write_index, write_shard
from ..data.shards import DTYPES
from ..distributed import Process
from ..errors import GuidanceError
from ..frozen import frozen
from ..progress import Progress, Work
from .decode import Decoded, Decoding, Refused, decoding
from .record import Records, UnitRecord
from .samples import Samples
from .vae import Encoder


@frozen(eq=False)
class Encoding:
    """What is to be encoded and how. sizes: (height, width) in pixels, of which each image takes the nearest.

    batch: images that the encoder takes at once. dtype: of the latents on disk. workers: processes that decode.
    """

    samples: Samples
    labelling: Labelling
    encoder: Encoder
    sizes: tuple[Size, ...]
    records: Records
    latent_space: str = ""
    batch: int = 8
    dtype: torch.dtype = torch.float16
    workers: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES.values():
            raise GuidanceError(f"Shards hold {', '.join(map(str, DTYPES.values()))}, not {self.dtype}.")
        for size in self.sizes:
            if min(size) < 1 or any(side % self.encoder.multiple for side in size):
                raise GuidanceError(
                    f"This VAE takes images whose sides are multiples of {self.encoder.multiple} pixels, got "
                    f"{size[0]} by {size[1]}."
                )

    @property
    def plan(self) -> dict[str, Any]:
        """What makes the shards what they are."""
        return {
            "images": self.samples.identity,
            "labels": list(self.labelling.names),
            "head": self.labelling.head.name,
            "vae": self.encoder.identity,
            "latent_space": self.latent_space,
            "sizes": [list(size) for size in self.sizes],
            "batch": self.batch,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def to_do(self) -> list[int]:
        """The units that are not finished. To be asked once and shared, before any process begins to finish some."""
        return [unit for unit in range(self.samples.units) if self.records.finished(unit) is None]

    def run(self, to_do: Sequence[int], process: Process, launch: str) -> Work[int]:
        """Encode this process's share of these units; returns how many images it encoded.

        Progress counts units. Raises GuidanceError for what cannot be encoded or written, and where another launch has
        taken the folder over.
        """
        own, encoded = to_do[process.rank :: process.world_size], 0
        stream = decoding(Decoding(self.samples, own, self.sizes), self.workers)
        for done, (unit, found) in enumerate(groupby(stream, key=lambda one: one.unit), 1):
            record = self._encode(unit, found)
            self.records.check(launch)
            self.records.finish(unit, record)
            encoded += sum(entry["count"] for entry in record.entries)
            yield Progress(done, len(own))
        return encoded

    def finish(self) -> tuple[int, int]:
        """Write the report and the index once all units are there; (images encoded, images not used)."""
        records = [self.records.finished(unit) for unit in range(self.samples.units)]
        missing = [unit for unit, record in enumerate(records) if record is None]
        if missing:
            raise GuidanceError(
                f"{len(missing)} of {len(records)} parts are missing in '{self.records.out}', the first of them "
                f"{missing[0]}: run the same command again, with a folder that all processes see."
            )
        done = [record for record in records if record is not None]
        skipped = [*self.samples.skipped, *(one for record in done for one in record.skipped)]
        self.records.report(skipped)
        entries = [entry for record in done for entry in record.entries]
        if not entries:
            raise GuidanceError(f"None of {len(skipped)} images could be used; report.csv says why.")
        images = Counter[tuple[int, ...]]()
        for entry in entries:
            images[tuple(entry["shape"])] += entry["count"]
        usual = max(sorted(images), key=lambda shape: images[shape])
        entries = [entry if tuple(entry["shape"]) != usual else _without_shape(entry) for entry in entries]
        occurrences = [sum(counts) for counts in zip(*(record.labels for record in done), strict=True)]
        write_index(
            self.records.out,
            self.labelling.names,
            self.labelling.head,
            self.latent_space,
            list(usual),
            entries,
            scale=self.encoder.scale,
            shift=self.encoder.shift,
            vae=self.encoder.identity,
            occurrences=occurrences,
        )
        return sum(entry["count"] for entry in entries), len(skipped)

    def _encode(self, unit: int, found: Iterator[Decoded | Refused]) -> UnitRecord:
        """Encode a unit, bucket by bucket, and write its shards."""
        skipped: list[Skipped] = []
        buckets: dict[tuple[int, ...], _Bucket] = {}
        for one in found:
            if isinstance(one, Refused):
                skipped.append(one.skipped)
                continue
            bucket = buckets.setdefault(one.pixels.shape, _Bucket(self.encoder, self.dtype, self.labelling))
            bucket.waiting.append(one)
            if len(bucket.waiting) == self.batch:
                bucket.encode()
        entries, counts = [], torch.zeros(len(self.labelling.names), dtype=torch.long)
        for number, shape in enumerate(sorted(buckets)):
            bucket = buckets[shape]
            bucket.encode()
            latents, labels = torch.cat(bucket.latents), torch.cat(bucket.labels)
            file = self.records.out / f"shard-{unit:05d}-{number}.safetensors"
            entry = write_shard(file, latents, labels, torch.tensor(bucket.groups))
            entries.append(entry | {"shape": list(latents.shape[1:])})
            seen = self.labelling.head.occurrences(labels, len(counts))
            counts += 0 if seen is None else seen.long()
        return UnitRecord(entries, skipped, counts.tolist())


@dataclass
class _Bucket:
    """The images of one size in a unit: those that wait for the encoder, and what came of the others."""

    encoder: Encoder
    dtype: torch.dtype
    labelling: Labelling
    waiting: list[Decoded] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)

    @torch.inference_mode()
    def encode(self) -> None:
        """Encode those that wait. Raises GuidanceError for latents that are not finite, or no latents."""
        if not self.waiting:
            return
        pixels = torch.stack([torch.from_numpy(one.pixels) for one in self.waiting])
        latents = self.encoder(pixels.permute(0, 3, 1, 2).float() / 255).to("cpu", self.dtype).contiguous()
        finite = latents.flatten(1).isfinite().all(1)
        if not bool(finite.all()):
            name = self.waiting[int(finite.int().argmin())].name
            raise GuidanceError(
                f"The latent of '{name}' is not finite in {self.dtype}: choose --dtype float32, or --vae-dtype "
                f"float32, which some VAEs need."
            )
        self.latents.append(latents)
        head = self.labelling.head
        self.labels.append(head.label_format.kept(head.of_pictures(self.waiting, self.labelling.names)))
        self.groups += [one.group for one in self.waiting]
        self.waiting.clear()


def _without_shape(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "shape"}
