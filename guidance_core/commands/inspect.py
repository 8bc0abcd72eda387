"""Print what a classifier's file says about it: labels, network, measurements, suggestion."""

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..assess.recommend import knowledge
from ..classifier.card import Card
from ..classifier.metadata import FORMAT, from_metadata
from ..classifier.noisy import KIND
from ..files import Header, read_header
from ..paths import FLOW, VE

MOST_LABELS = 30
CONFUSIONS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a classifier, .safetensors")
    parser.add_argument("--out", type=Path, metavar="PNG", help="also draw its measurements")


def run(arguments: argparse.Namespace) -> int:
    header = read_header(arguments.file, KIND, FORMAT)
    card = from_metadata(header.metadata, arguments.file.name)
    for line in described(card, header):
        print(line)
    if arguments.out:
        from ..assess.page import card_picture
        from ..drawing.plot import write_png

        write_png(card_picture(card), arguments.out)
    return 0


def described(card: Card, header: Header) -> Iterator[str]:
    """The card and the size of a file, a line each; measurements as a table."""
    record = card.record
    weights = sum(math.prod(declared.shape) for declared in header.tensors.values())
    low, high = card.log_snr_range
    names = ", ".join(card.labels[:MOST_LABELS]) + (", ..." if len(card.labels) > MOST_LABELS else "")
    told = [
        ("format", f"version {header.metadata['version']}{_by(record.created_with)}, {size(header.size)}"),
        ("labels", f"{len(card.labels)} ({card.head.title}): {names}"),
        ("latents", card.latent_space or "not said"),
        ("latent scale", "" if record.latent_scale is None else f"{record.latent_scale:g}"),
        ("latent shift", "" if record.latent_shift is None else f"{record.latent_shift:g}"),
        ("path", record.path and f"made for {record.path} models"),
        ("noise", f"log-SNR {low:g} to {high:g}, which is {_sigmas(low, high)}"),
        ("network", f"{card.architecture}, {weights:,} weights: {_listed(card.parameters)}"),
        ("training", _listed(record.training)),
        ("data", record.data_hash),
        ("info", _listed(card.info)),
        ("author", record.author),
        ("licence", record.licence),
        ("preview", record.preview and f"a PNG of {size(len(record.preview))}"),
    ]
    for name, text in told:
        if text:
            yield f"{name:<14}{_indented(text)}"
    if record.bins:
        yield ""
        yield from table(card)
    yield from confused(record.confusion or (), card.labels)
    if record.suggestion is not None:
        yield ""
        yield _indented(record.suggestion.reason)


def table(card: Card) -> Iterator[str]:
    """The measurements of each bin of noise levels."""
    record = card.record
    accuracy = card.head.accuracy_name
    yield f"{'log-SNR':>15}  {'sigma (VE)':>17}  {accuracy:>8}  {'known':>6}  {'calibration':>11}  {'temperature':>11}"
    for b in record.bins:
        sigmas = "{1:.3g} to {0:.3g}".format(*(float(VE.sigma_at(end)) for end in (b.log_snr_low, b.log_snr_high)))
        known = "" if record.chance_loss is None else f"{knowledge(b, record.chance_loss):.1%}"
        yield (
            f"{f'{b.log_snr_low:.3g} to {b.log_snr_high:.3g}':>15}  {sigmas:>17}  {b.accuracy:>8.1%}  {known:>6}  "
            f"{b.calibration_error:>11.3f}  {b.temperature:>11.3f}"
        )
    if record.chance is not None and card.head.has_probabilities:
        yield f"Always giving the most frequent answer would be right in {record.chance:.1%}."


def confused(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> Iterator[str]:
    """The answers that are most often wrong, over the suggested range."""
    wrong = [
        (count / sum(row), labels[i], labels[j])
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    for share, truth, answer in sorted(wrong, reverse=True)[:CONFUSIONS]:
        yield f"'{truth}' is taken for '{answer}' in {share:.1%}."


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"


def _by(created_with: str) -> str:
    return f" by {created_with}" if created_with else ""


def _sigmas(low: float, high: float) -> str:
    ends = [[float(path.sigma_at(end)) for end in (high, low)] for path in (VE, FLOW)]
    return "sigma {:.3g} to {:.3g} on VE, {:.3g} to {:.3g} on flow".format(*ends[0], *ends[1])


def _listed(table: dict) -> str:
    return ", ".join(f"{key} {value}" for key, value in table.items())


def _indented(text: str) -> str:
    return text.replace("\n", f"\n{'':<14}")
