"""Train a noise-aware classifier on latent shards, on a folder of pictures, or on the bundled digits."""

import argparse
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from ..assess.assessment import assess
from ..classifier.noisy import NoisyClassifier
from ..data.augment import AUGMENTS
from ..data.folders import MINIMUM, PictureFolder, scan_folder
from ..data.images import PictureSource
from ..data.joined import AgainstOthers
from ..data.shards import ShardSource
from ..data.sources import Source, TensorSource
from ..data.stream import BUFFER, ShardStream
from ..data.stream_against import InMemory, StreamAgainst
from ..data.streaming import Stream
from ..demo.data import LABELS, load_digits
from ..demo.negatives import MODELS, drawn_negatives
from ..distributed import launched, this_process
from ..errors import GuidanceError
from ..locked import held
from ..params import params_of
from ..signals import stopped
from ..train.log import Log
from ..train.loop import Training, TrainStep, train_classifier
from ..train.negatives import OTHER, steps_with_prior
from ..train.settings import TrainSettings
from . import Line, add_options

DRAWS = 2700  # of noise for the judgement, at each noise level
MOST_JUDGED = 2000
SETTINGS = [name for name in params_of(TrainSettings) if name != "head"]  # the data say which head


def add_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--shards", type=Path, metavar="DIR", help="a folder of latent shards")
    data.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="a folder of pictures, for a classifier of pixels: one sub-folder a class, or captions, or a CSV table",
    )
    data.add_argument("--digits", action="store_true", help="the digits of scikit-learn, with the demo's settings")
    parser.add_argument(
        "--stream",
        action="store_true",
        help="go through --shards in a shuffled order instead of drawing examples: memory stays the same however many "
        "there are; shards of several sizes are always read so",
    )
    parser.add_argument(
        "--buffer", type=int, default=BUFFER, metavar="INT", help=f"examples of a stream shuffled together ({BUFFER})"
    )
    parser.add_argument(
        "--workers", type=int, default=2, metavar="INT", help="processes that read a stream ahead, 0 for none (2)"
    )
    parser.add_argument(
        "--negatives",
        metavar="DIR|NAME",
        help=f"what the pictures are set against, as the label '{OTHER}': a folder of latent shards, or samples that "
        "the digits or emoji model draws",
    )
    parser.add_argument("--negative-count", type=int, default=400, metavar="INT", help="samples to draw (400)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="where the classifier goes, .safetensors"
    )
    parser.add_argument("--size-px", type=int, default=64, metavar="INT", help="side of the pictures of --folder (64)")
    parser.add_argument(
        "--minimum", type=int, default=MINIMUM, metavar="INT", help=f"pictures a label of --folder needs ({MINIMUM})"
    )
    parser.add_argument(
        "--log-snr-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="noise levels to learn (-10 10)"
    )
    parser.add_argument("--augment", metavar="NAMES", help=f"variations, by comma: {', '.join(AUGMENTS)}")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="keep the run in this file (else beside --out until it is done)"
    )
    parser.add_argument("--curve", type=Path, metavar="CSV", help="keep loss and accuracy of every step in this table")
    parser.add_argument("--device", help="cpu, cuda, ... (a GPU if there is one)")
    add_options(parser, TrainSettings, SETTINGS)


def run(arguments: argparse.Namespace) -> int:
    out = arguments.out
    if out.suffix != ".safetensors" or not out.parent.is_dir():
        raise GuidanceError(f"--out must be a .safetensors file in a folder that exists, got '{out}'.")
    checkpoint = arguments.checkpoint or out.with_name(f"{out.name}.checkpoint")
    written = [file for file in (out, checkpoint, arguments.curve) if file]
    with launched() as device, held(written, this_process()) as unsure:
        process = this_process()
        line = Line(quiet=process.rank > 0)
        if unsure:
            line.say(unsure)
        options = _data(arguments, line)
        if arguments.negatives is not None:
            options = _against_negatives(options, arguments, line)
        given = {name: getattr(arguments, name) for name in (*SETTINGS, "augment", "log_snr_range")}
        options |= {name: value for name, value in given.items() if value is not None}
        options["device"] = arguments.device or device or ("cuda" if torch.cuda.is_available() else "cpu")
        steps = train_classifier(**options, checkpoint=checkpoint)
        if arguments.negatives is not None:
            steps = steps_with_prior(steps)
        with stopped(breaks_off=process.world_size == 1) as stop, closing(steps):
            log = Log(arguments.curve) if arguments.curve and process.rank == 0 else None
            step = _follow(steps, stop, line, options["device"], log)
            if process.rank == 0:
                (step.classifier or step.best()).save(out)  # before the run is closed, which may fail
            lost = _close(steps)
        if process.rank == 0 and step.classifier:
            _judged(step.classifier, _held_out(arguments, options["latents"], step), line).save(out)
            if not arguments.checkpoint:
                checkpoint.unlink(missing_ok=True)
    if step.classifier:
        line.say(f"Saved '{out}'.")
        return 0
    goes_on = f"but the same command will not go on from there. {lost}" if lost else "the same command goes on."
    line.say(f"Stopped at step {step.step} of {step.steps}: the best so far is in '{out}', {goes_on}")
    return 128 + (stop or [signal.SIGINT])[0]


def _close(steps: Training) -> str:
    """Close a run, which writes its checkpoint; why that could not be written, or nothing."""
    try:
        steps.close()
    except GuidanceError as error:
        return str(error)
    return ""


def _shards(arguments: argparse.Namespace) -> ShardSource | ShardStream:
    """Of several sizes only a stream can be read."""
    stream = ShardStream.open(arguments.shards, arguments.buffer, arguments.workers)
    return stream if arguments.stream or len(stream.shapes) > 1 else ShardSource.open(arguments.shards)


def _against_negatives(options: dict[str, Any], arguments: argparse.Namespace, line: Line) -> dict[str, Any]:
    """The arguments with the negatives as one more label."""
    source, folder, names = options["latents"], Path(arguments.negatives), [*options["label_names"], OTHER]
    if OTHER in options["label_names"]:
        raise GuidanceError(f"--negatives needs examples without a label '{OTHER}', which is the negatives'.")
    if isinstance(source, ShardStream):
        streamed = ShardStream.open(folder, arguments.buffer) if folder.is_dir() else InMemory(_drawn(arguments, line))
        return options | {"latents": StreamAgainst.open(source, streamed, OTHER), "label_names": names}
    others = ShardSource.open(folder) if folder.is_dir() else _drawn(arguments, line)
    return options | {"latents": AgainstOthers(source, others, len(names) - 1), "label_names": names}


def _drawn(arguments: argparse.Namespace, line: Line) -> TensorSource:
    if (name := arguments.negatives) not in MODELS:
        raise GuidanceError(f"--negatives must be a folder of shards, {' or '.join(MODELS)}, got '{name}'.")
    negatives = line.run(drawn_negatives(name, arguments.negative_count), "drew {done} of {count} negatives")
    return TensorSource(negatives, torch.zeros(len(negatives), dtype=torch.long))


def _data(arguments: argparse.Namespace, line: Line) -> dict[str, Any]:
    """The arguments of train_classifier that come with the data."""
    if arguments.shards:
        source = _shards(arguments)
        line.say(f"{len(source)} latents {list(source.shape)} of {', '.join(source.label_names)}.")
        space = source.latent_space
        return {"latents": source, "label_names": source.label_names, "head": source.head, "latent_space": space}
    if arguments.folder:
        pictures = line.run(scan_folder(arguments.folder, arguments.minimum), "checked {done} of {count} pictures")
        _say_what_is_left_out(pictures, line)
        images = PictureSource(pictures.files, pictures.targets, (arguments.size_px, arguments.size_px))
        line.say(f"{len(images)} pictures of {', '.join(pictures.labels)}.")
        return {"latents": images, "label_names": pictures.labels, "head": pictures.head, "latent_space": "pixels"}
    from ..demo.train import CLASSIFIER_SETTINGS

    digits, _ = load_digits()
    return {"latents": TensorSource(digits.x0, digits.labels), "label_names": LABELS, **CLASSIFIER_SETTINGS}


Examples = tuple[torch.Tensor, torch.Tensor]


def _held_out(arguments: argparse.Namespace, source: Source | Stream, step: TrainStep) -> Examples | None:
    """Latents and labels that were not learned from, if any; of the digits their own held-out part.

    Of a set on disk not more than memory holds, and of several sizes those of the most frequent.
    """
    held_out = step.held_out
    if len(held_out):
        if isinstance(source, Stream):
            held_out = held_out[source.size_of(held_out) == source.size_of(held_out).mode().values]
        count = min(len(held_out), MOST_JUDGED)
        some = held_out[torch.arange(count) * len(held_out) // count]
        labels = source.labels_of(some) if isinstance(source, Stream) else source.labels[some]
        return source.load(some), labels
    if not arguments.digits:
        return None
    _, digits = load_digits()
    return digits.x0, digits.labels


def _judged(classifier: NoisyClassifier, held_out: Examples | None, line: Line) -> NoisyClassifier:
    """The classifier with its measurements written down, which are also shown; as it is where nothing was held out."""
    if held_out is None:
        line.say("Nothing was held out (--hold-out), so the classifier is not judged.")
        return classifier
    latents, labels = held_out
    device = next(classifier.network.parameters()).device
    work = assess(classifier, latents.to(device), labels, repeats=max(1, DRAWS // len(latents)))
    assessed = line.run(work, "judged {done} of {count}")
    for b in assessed.evaluation.bins:
        line.say(
            f"log-SNR {b.log_snr_low:5.1f} to {b.log_snr_high:5.1f}: accuracy {b.accuracy:.3f}, "
            f"calibration error {b.calibration_error:.3f}"
        )
    line.say(assessed.suggestion.reason)
    return assessed.classifier


def _say_what_is_left_out(pictures: PictureFolder, line: Line) -> None:
    for one in pictures.skipped:
        line.say(f"Not used: '{one.name}' {one.reason}.")
    if pictures.left_out:
        line.say(f"Tags that too few pictures have, or lack: {', '.join(pictures.left_out)}.")


def _follow(steps: Training, stop: list[int], line: Line, device: torch.device | str, log: Log | None) -> TrainStep:
    """Draw the steps until the last, or until every process has heard that one was asked to stop."""
    began, first = time.monotonic(), None
    for step in steps:
        first = first or step.step
        line.show(_told(step, first, time.monotonic() - began), step.step, step.steps, bool(step.validation))
        for note in step.notes:
            line.say(note)
        if log is not None:
            log.add(step)
        if this_process().all_reduce(torch.tensor(len(stop), device=device)).item():
            break
    return step


def _told(step: TrainStep, first: int, seconds: float) -> str:
    text = f"step {step.step} of {step.steps}, loss {step.loss:.4f}, accuracy {step.accuracy:.3f}"
    if step.validation:
        best = ", the best so far" if step.validation.best else ""
        text += f", held out: loss {step.validation.loss:.4f}, accuracy {step.validation.accuracy:.3f}{best}"
    if step.step > first:
        left = seconds / (step.step - first) * (step.steps - step.step)
        text += f", {int(left) // 60}:{int(left) % 60:02d} left"
    return text
