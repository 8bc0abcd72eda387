"""Convert one of ADM's ImageNet classifiers (.pt), or a classifier of an older version, to a .safetensors file."""

import argparse
import json
from pathlib import Path

from ..classifier.adm import SCHEDULES
from ..classifier.adm_import import import_adm
from ..classifier.card import CREATED_WITH
from ..classifier.card_values import MAX_LABELS
from ..classifier.noisy import NoisyClassifier
from ..errors import GuidanceError

MAX_LIST = 16 * 2**20  # bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SRC", help="ADM's .pt, or a classifier's .safetensors")
    parser.add_argument("out", type=Path, metavar="DST", help="where the classifier goes, .safetensors")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="names of the classes, one a line or a JSON list")
    parser.add_argument("--schedule", choices=SCHEDULES, help="ADM's noise (cosine at 64 pixels, else linear)")
    parser.add_argument("--image-size", type=int, metavar="INT", help="where ADM's weights fit several")
    parser.add_argument("--author", help="whose it is")
    parser.add_argument("--licence", help="under what it may be used")


def run(arguments: argparse.Namespace) -> int:
    source, out = arguments.source, arguments.out
    if out.suffix != ".safetensors" or not out.parent.is_dir():
        raise GuidanceError(f"DST must be a .safetensors file in a folder that exists, got '{out}'.")
    labels = read_labels(arguments.labels) if arguments.labels else None
    if source.suffix == ".safetensors":
        classifier = NoisyClassifier.load(source)
        if labels is not None:
            if len(labels) != len(classifier.labels):
                raise GuidanceError(f"'{source.name}' has {len(classifier.labels)} labels, got {len(labels)} names.")
            classifier = NoisyClassifier(classifier.network, classifier.card, labels=labels)
    else:
        classifier = import_adm(source, labels, arguments.image_size, arguments.schedule)
    given = {"author": arguments.author, "licence": arguments.licence}
    classifier = classifier.recording(
        created_with=CREATED_WITH, **{key: text for key, text in given.items() if text is not None}
    )
    classifier.save(out)
    print(f"Wrote '{out}': {len(classifier.labels)} labels, {classifier.architecture}.")
    return 0


def read_labels(file: Path) -> list[str]:
    """Names from a text file, one a line, or from a JSON list. Raises GuidanceError for anything else."""
    try:
        if file.stat().st_size > MAX_LIST:
            raise ValueError(f"it is larger than {MAX_LIST // 2**20} MiB")
        text = file.read_text(encoding="utf-8-sig")
        names = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    except (OSError, ValueError, RecursionError) as error:
        raise GuidanceError(f"The labels in '{file}' cannot be read: {error}.") from error
    names = [name.strip() if isinstance(name, str) else name for name in names]
    while names and names[-1] == "":
        names.pop()
    if not 1 <= len(names) <= MAX_LABELS or not all(isinstance(name, str) and name for name in names):
        raise GuidanceError(f"'{file}' must hold one name for every class, in order, each on a line.")
    return names
