"""Encode labelled pictures, in a folder, a CSV table or tar shards, into latent shards to train on."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ..data.folders import MINIMUM
from ..data.image_file import Size, aspect_sizes
from ..data.labelling import decided
from ..distributed import Process, launched, this_process
from ..encode.encoding import Encoding
from ..encode.record import Records
from ..encode.samples import UNIT, FolderSamples, Samples
from ..encode.tars import TarContents, TarSamples, scan_tar
from ..encode.vae import encoder_of
from ..errors import GuidanceError, OwnError
from ..work_folder import read_json
from ..writing import write_whole
from . import Line

MAX_SIDE = 16384
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    what = "a folder or CSV table as for train --folder, or tars in WebDataset's layout"
    add("inputs", type=Path, nargs="+", metavar="FOLDER|TAR", help=what)
    vae = "a VAE: a folder in diffusers' layout, a .safetensors file (AutoencoderKL, TAESD), or pixels, digits, emoji"
    add("--vae", required=True, metavar="DIR|FILE|NAME", help=vae)
    add("--out", type=Path, required=True, metavar="DIR", help="where the shards go; the same command goes on there")
    add("--size-px", type=int, metavar="INT", help="side of the pictures (the VAE's usual one)")
    add("--aspects", action="store_true", help="crop to the nearest of the usual aspect ratios, not to a square")
    add("--latent-space", metavar="NAME", help="what the latents are called, such as sd15 or sdxl")
    add("--minimum", type=int, default=MINIMUM, metavar="INT", help=f"pictures that a label needs ({MINIMUM})")
    add("--batch", type=int, default=8, metavar="INT", help="pictures that the VAE takes at once (8)")
    add("--shard-images", type=int, default=UNIT, metavar="INT", help=f"pictures of a shard, at most ({UNIT})")
    add("--dtype", choices=DTYPES, default="float16", help="of the latents on disk (float16)")
    add("--vae-dtype", choices=DTYPES, default="float32", help="in which the VAE computes (float32)")
    add("--workers", type=int, default=2, metavar="INT", help="processes that decode pictures ahead (2)")
    add("--device", help="cpu, cuda, ... (a GPU if there is one)")


def run(arguments: argparse.Namespace) -> int:
    for name in ("minimum", "batch", "shard_images"):
        if getattr(arguments, name) < 1:
            raise GuidanceError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}.")
    if not 0 <= arguments.workers <= 1024:
        raise GuidanceError(f"--workers must be from 0 to 1024, got {arguments.workers}.")
    with launched(patient=True) as own:
        process = this_process()
        line = Line(quiet=process.rank > 0)
        records = Records(arguments.out)
        samples = _samples(arguments, records, process, line)
        labelling = decided(samples.tally, arguments.minimum, samples.skipped, labels=1)
        device = arguments.device or own or ("cuda" if torch.cuda.is_available() else "cpu")
        encoder = encoder_of(arguments.vae, arguments.latent_space or "", device, DTYPES[arguments.vae_dtype])
        encoding = Encoding(
            samples,
            labelling,
            encoder,
            _sizes(arguments, encoder.size, encoder.multiple),
            records,
            arguments.latent_space or encoder.latent_space,
            arguments.batch,
            DTYPES[arguments.dtype],
            arguments.workers,
        )
        records.agree(encoding.plan, write=process.rank == 0)
        launch = process.agreed(records.launch)
        to_do = process.agreed(encoding.to_do)
        line.say(f"{samples.tally.count} pictures of {_some(labelling.names)}; parts: {samples.units}.")
        try:
            line.run(encoding.run(to_do, process, launch), "part {done} of {count}")
        except GuidanceError as error:
            raise OwnError(str(error)) from error
        process.barrier()
        if process.rank == 0:
            used, skipped = encoding.finish()
            line.say(f"Wrote '{arguments.out}': {used} latents; pictures not used: {skipped}{_why(skipped)}.")
    return 0


def _sizes(arguments: argparse.Namespace, usual: int, multiple: int) -> tuple[Size, ...]:
    side = arguments.size_px if arguments.size_px is not None else usual
    if not 1 <= side <= MAX_SIDE:
        raise GuidanceError(f"--size-px must be from 1 to {MAX_SIDE}, got {side}.")
    if not arguments.aspects:
        return ((side, side),)
    return aspect_sizes(side, multiple * max(1, min(64, side // 8) // multiple))


def _samples(arguments: argparse.Namespace, records: Records, process: Process, line: Line) -> Samples:
    """The images to encode; tars are scanned first, each by one of the processes."""
    tars = [file for file in arguments.inputs if ".tar" in file.suffixes]
    if not tars and len(arguments.inputs) == 1:
        return FolderSamples.find(arguments.inputs[0], arguments.shard_images)
    if len(tars) < len(arguments.inputs):
        raise GuidanceError("Give one folder, one CSV table, or any number of tars.")
    for number in range(process.rank, len(tars), process.world_size):
        if _contents(records, number, tars[number], arguments.shard_images) is None:
            found = json.dumps(asdict(scan_tar(tars[number], arguments.shard_images)))
            write_whole(records.tar(number), found.encode())
        line.show(f"looked through {number + 1} of {len(tars)} tars", number + 1, len(tars))
    process.barrier()
    contents = [_contents(records, number, file, arguments.shard_images) for number, file in enumerate(tars)]
    if None in contents:
        raise GuidanceError(f"'{records.out}' must be a folder that all processes see.")
    return TarSamples(tuple(tars), tuple(filter(None, contents)))


def _contents(records: Records, number: int, file: Path, unit: int) -> TarContents | None:
    """What an earlier scan found, where it is of this tar."""
    found = read_json(records.tar(number))
    if found is None or not file.is_file():
        return None
    contents = TarContents(**found)
    return contents if (contents.size, contents.unit) == (file.stat().st_size, unit) else None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _why(skipped: int) -> str:
    return " (report.csv says why)" if skipped else ""
