"""Compare samples with real pictures by their features: Frechet distance, precision and recall."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..assess.distance import Moments, frechet, precision_and_recall
from ..distributed import Process, launched, this_process
from ..errors import GuidanceError
from ..files import read_tensors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "a safetensors file with the tensor 'features' [N, F], or a folder of them, as sample --out DIR writes"
    parser.add_argument("samples", type=Path, metavar="SAMPLES", help=what)
    parser.add_argument("real", type=Path, metavar="REAL", help="the same of real pictures")
    parser.add_argument(
        "--neighbours", type=int, default=3, metavar="INT", help="of precision and recall, 0 for neither (3)"
    )
    parser.add_argument("--device", help="cpu, cuda, ... (a GPU if there is one)")


def run(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.neighbours <= 100:
        raise GuidanceError(f"--neighbours must be from 0 to 100, got {arguments.neighbours}.")
    with launched() as own:
        process = this_process()
        device = arguments.device or own or ("cuda" if torch.cuda.is_available() else "cpu")
        sets = [torch.cat(list(_features(place))).to(device) for place in (arguments.samples, arguments.real)]
        if sets[0].shape[1] != sets[1].shape[1] or min(map(len, sets)) < 2:
            shapes = " and ".join(str(list(features.shape)) for features in sets)
            raise GuidanceError(f"Features must be of one kind, and two or more of each, got {shapes}.")
        moments = [Moments.merged([Moments.of(_part(features, process))], process) for features in sets]
        text = f"Frechet distance {frechet(*moments):.4f}"
        if arguments.neighbours:
            precision, recall = precision_and_recall(sets[1], sets[0], arguments.neighbours, process)
            text += f", precision {precision:.4f}, recall {recall:.4f}"
        if process.rank == 0:
            print(f"{text} ({len(sets[0])} samples, {len(sets[1])} real)")
    return 0


def _part(features: Tensor, process: Process) -> Tensor:
    return features[process.part_of(len(features))]


def _features(place: Path) -> Iterator[Tensor]:
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    if not files:
        raise GuidanceError(f"There is no safetensors file in '{place}'.")
    for file in files:
        found = read_tensors(file, "features", None, only=("features",))[1].get("features")
        if found is None or found.ndim != 2 or not found.is_floating_point() or not bool(found.isfinite().all()):
            raise GuidanceError(f"'{file.name}' must hold a tensor 'features' [N, F] of finite numbers.")
        yield found
