"""Evaluate a classifier on held-out latents, calibrate it, and write the figures into its file and a picture."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..assess.assessment import assess
from ..assess.metrics import even_edges
from ..assess.page import card_picture
from ..classifier.card import Card
from ..classifier.noisy import NoisyClassifier
from ..data.shards import ShardSource
from ..distributed import launched, this_process
from ..drawing.plot import check_png, write_png
from ..errors import GuidanceError
from ..files import read_header, read_tensors
from ..locked import held
from . import Line
from .inspect import table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a classifier, .safetensors; it is rewritten")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument(
        "--latents",
        type=Path,
        metavar="PATH",
        help="a folder of latent shards, or a safetensors file with tensors 'latents' [N, C, ...] and 'labels'; none "
        "of them from training",
    )
    data.add_argument("--digits", action="store_true", help="the held-out digits of the bundled demo")
    parser.add_argument("--out", type=Path, metavar="PNG", help="draw a page about it")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the classifier here and leave FILE as it is")
    parser.add_argument("--examples", type=int, default=2000, metavar="INT", help="use at most so many latents (2000)")
    parser.add_argument("--repeats", type=int, default=1, metavar="INT", help="draws of noise for each latent (1)")
    parser.add_argument(
        "--bins", type=int, default=10, metavar="INT", help="parts of the classifier's noise range (10)"
    )
    parser.add_argument("--batch", type=int, default=64, metavar="INT", help="(64)")
    parser.add_argument("--seed", type=int, default=0, metavar="INT", help="which latents, and the noise (0)")
    parser.add_argument("--keep-temperature", action="store_true", help="do not calibrate, only measure")
    parser.add_argument("--device", help="cpu, cuda, ... (a GPU if there is one)")


def run(arguments: argparse.Namespace) -> int:
    for name in ("examples", "repeats", "bins", "batch"):
        if getattr(arguments, name) < 1:
            raise GuidanceError(f"--{name} must be at least 1, got {getattr(arguments, name)}.")
    out = arguments.save or arguments.file
    if out.suffix != ".safetensors" or not out.parent.is_dir():
        raise GuidanceError(f"The classifier must go to a .safetensors file in a folder that exists, got '{out}'.")
    if arguments.out:
        check_png(arguments.out)
    written = [file for file in (out, arguments.out) if file]
    with launched(patient=True) as own, held(written, this_process()) as unsure:
        if unsure and not this_process().rank:
            print(unsure)
        return _evaluate(arguments, out, arguments.device or own or ("cuda" if torch.cuda.is_available() else "cpu"))


def _evaluate(arguments: argparse.Namespace, out: Path, device: torch.device | str) -> int:
    """In each process; the first writes and speaks."""
    process = this_process()
    classifier = NoisyClassifier.load(arguments.file)
    classifier.network.to(device)
    latents, labels = _examples(arguments, classifier)
    if not bool(latents.isfinite().all()):
        raise GuidanceError("Some of the latents are not finite numbers.")
    work = assess(
        classifier,
        latents.to(device),
        labels,
        bins=even_edges(classifier.log_snr_range, arguments.bins),
        temperature=not arguments.keep_temperature,
        repeats=arguments.repeats,
        batch=arguments.batch,
        seed=arguments.seed,
        process=process,
    )
    assessed = Line(quiet=process.rank > 0).run(work, "batch {done} of {count}")
    process.barrier()  # nobody reads the file any more
    if process.rank:
        return 0
    if arguments.out:
        write_png(card_picture(assessed.classifier.card, assessed.evaluation.reliability), arguments.out)
    assessed.classifier.save(out)
    for text in table(assessed.classifier.card):
        print(text)
    print(f"\n{assessed.suggestion.reason}")
    return 0


def _examples(arguments: argparse.Namespace, classifier: NoisyClassifier) -> tuple[Tensor, Tensor]:
    """Some of the latents and labels, drawn by the seed."""
    generator = torch.Generator().manual_seed(arguments.seed)

    def drawn(count: int) -> Tensor:
        return torch.randperm(count, generator=generator)[: arguments.examples].sort().values

    if arguments.digits:
        from ..demo.data import LABELS, load_digits

        if tuple(classifier.labels) != LABELS:
            raise GuidanceError(f"--digits needs a classifier of {_some(LABELS)}, not of {_some(classifier.labels)}.")
        _, held_out = load_digits()
        chosen = drawn(len(held_out.labels))
        return held_out.x0[chosen], held_out.labels[chosen]
    if arguments.latents.is_dir():
        source = ShardSource.open(arguments.latents)
        chosen = drawn(len(source))
        labels = _in_order(source.labels[chosen], source, classifier.card)
        return source.load(chosen), labels
    latents, labels = read_file(arguments.latents)
    chosen = drawn(len(latents))
    return latents[chosen].float(), labels[chosen]


def _in_order(labels: Tensor, source: ShardSource, card: Card) -> Tensor:
    """The labels of a folder in the order of the classifier's. Raises GuidanceError unless they are the same."""
    if not card.head.takes(source.head):
        raise GuidanceError(f"The latents have labels of the head '{source.head}', the classifier '{card.head}'.")
    if source.latent_space and card.latent_space and source.latent_space != card.latent_space:
        raise GuidanceError(
            f"The latents are of '{source.latent_space}', and the classifier is for '{card.latent_space}'."
        )
    theirs, ours = list(source.label_names), list(card.labels)
    if sorted(theirs) != sorted(ours) or len(set(ours)) < len(ours):
        raise GuidanceError(f"The latents have the labels {_some(theirs)}, and the classifier {_some(ours)}.")
    return card.head.label_format.renamed(labels, [ours.index(name) for name in theirs], len(ours))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def read_file(file: Path) -> tuple[Tensor, Tensor]:
    """The tensors `latents` and `labels` of a safetensors file. Raises GuidanceError where it has none that fit."""
    header = read_header(file, "latents", None)
    found = {name: header.tensors[name].shape if name in header.tensors else () for name in ("latents", "labels")}
    if len(found["latents"]) < 3 or found["latents"][:1] != found["labels"][:1] or not found["latents"][0]:
        raise GuidanceError(
            f"'{file.name}' must hold tensors 'latents' [N, C, ...] and 'labels' [N] or [N, K], and has "
            f"{', '.join(f'{name} {list(shape)}' for name, shape in found.items() if shape) or 'neither'}."
        )
    tensors = read_tensors(file, "latents", None, only=found)[1]
    return tensors["latents"], tensors["labels"]
