"""Noisy classifiers as ComfyUI's objects and files: the folder models/noisy_classifiers, and names in it."""

import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import folder_paths

from ...guidance_core.classifier.card import Card
from ...guidance_core.classifier.noisy import NoisyClassifier
from ...guidance_core.errors import GuidanceError
from ...guidance_core.file_names import name_parts
from ...guidance_core.writing import create
from .classifiers import HostClassifier
from .patchers import patcher_of

CLASSIFIER_FOLDER = "noisy_classifiers"
ENDING = ".safetensors"


def host_classifier(classifier: NoisyClassifier) -> HostClassifier:
    """A classifier that ComfyUI loads and unloads together with the diffusion model."""
    return HostClassifier(classifier, patcher_of(classifier.network))


def file_named(name: str, folder: str = CLASSIFIER_FOLDER, thing: str = "a classifier") -> Path:
    """The file of a thing in the first models/FOLDER folder; sub-folders are made by `/`.

    Raises GuidanceError for a name that leads out of the folder, that a file cannot have on every system, or that a
    folder has.
    """
    name = name.strip().removesuffix(ENDING)
    parts = name_parts(name, thing, f"models/{folder}")
    root = Path(folder_paths.get_folder_paths(folder)[0])
    file = root.joinpath(*parts[:-1], parts[-1] + ENDING)
    if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root)):
        raise GuidanceError(f"'{name}' leads out of models/{folder}.")
    if os.path.isdir(file):
        raise GuidanceError(f"'{name}' is the name of a folder in models/{folder}: choose another.")
    return file


@contextmanager
def new_file(names: Iterable[Path]) -> Iterator[Path]:
    """A place to write to that nobody else has, the first of the names that is free (see `numbered`).

    It is taken at once, as an empty file, since two processes may look for a free number at the same time; where
    nothing is written to it, it is given back. Raises GuidanceError where the folder cannot be written.
    """
    free = next(file for file in names if create(file))
    try:
        yield free
    finally:
        if os.path.isfile(free) and not os.path.getsize(free):
            free.unlink(missing_ok=True)


def numbered(file: Path) -> Iterator[Path]:
    """The file itself, then with the numbers from 2 on."""
    yield file
    for number in itertools.count(2):
        yield file.with_name(f"{file.stem} {number}{ENDING}")


def relative(file: Path, folder: str = CLASSIFIER_FOLDER) -> str:
    """A file of models/FOLDER as its loader lists it."""
    return os.path.relpath(file, folder_paths.get_folder_paths(folder)[0])


def summary(card: Card) -> str:
    """A classifier in a few lines for a node."""
    labels = ", ".join(card.labels[:12]) + (f" and {len(card.labels) - 12} more" if len(card.labels) > 12 else "")
    lines = [f"{len(card.labels)} labels: {labels}", f"latents: {card.latent_space or 'unknown'}"]
    if card.record.suggestion is not None:
        lines += ["", card.record.suggestion.reason]
    return "\n".join(lines)
