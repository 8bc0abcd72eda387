"""Noisy classifiers as ComfyUI's objects and files: the folder models/noisy_classifiers, and names in it."""

import copy
import os
import re
from dataclasses import replace
from pathlib import Path

import comfy.model_management
import folder_paths
from comfy.model_patcher import ModelPatcher

from ...guidance_core.classifier.card import Card
from ...guidance_core.classifier.noisy import NoisyClassifier
from ...guidance_core.errors import GuidanceError
from .types import HostClassifier

CLASSIFIER_FOLDER = "noisy_classifiers"
ENDING = ".safetensors"
NAME = re.compile(r"[\w][\w .,()+-]{0,99}")


def host_classifier(classifier: NoisyClassifier) -> HostClassifier:
    """A classifier that ComfyUI loads and unloads together with the diffusion model."""
    patcher = ModelPatcher(
        classifier.network,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    patcher.cached_patcher_init = (_for_another_device, (classifier,))
    return HostClassifier(classifier, patcher)


def _for_another_device(classifier: NoisyClassifier, disable_dynamic: bool = False) -> ModelPatcher:
    """A patcher with weights of its own, which MultiGPU CFG Split wants of all that is loaded with a model."""
    return host_classifier(replace(classifier, network=copy.deepcopy(classifier.network))).patcher


def file_named(name: str) -> Path:
    """The file of a classifier in the first models/noisy_classifiers folder; sub-folders are made by `/`.

    Raises GuidanceError for a name that leads out of the folder or that a file cannot have.
    """
    name = name.strip().removesuffix(ENDING)
    parts = [part.strip() for part in name.split("/")]
    if not all(NAME.fullmatch(part) for part in parts):
        raise GuidanceError(
            f"'{name}' cannot be the name of a classifier: use letters, digits, spaces and - _ . , ( ) +, and / for "
            f"a folder in models/{CLASSIFIER_FOLDER}."
        )
    root = Path(folder_paths.get_folder_paths(CLASSIFIER_FOLDER)[0])
    file = root.joinpath(*parts[:-1], parts[-1] + ENDING)
    if not file.resolve().is_relative_to(root.resolve()):
        raise GuidanceError(f"'{name}' leads out of models/{CLASSIFIER_FOLDER}.")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def numbered(file: Path) -> Path:
    """The file itself, or with a number where there is one of this name already."""
    number, free = 2, file
    while free.exists():
        free = file.with_name(f"{file.stem} {number}{ENDING}")
        number += 1
    return free


def relative(file: Path) -> str:
    """A classifier's file as the loader lists it."""
    return os.path.relpath(file, folder_paths.get_folder_paths(CLASSIFIER_FOLDER)[0])


def summary(card: Card) -> str:
    """A classifier in a few lines for a node."""
    labels = ", ".join(card.labels[:12]) + (f" and {len(card.labels) - 12} more" if len(card.labels) > 12 else "")
    lines = [f"{len(card.labels)} labels: {labels}", f"latents: {card.latent_space or 'unknown'}"]
    if card.record.suggestion is not None:
        lines.append(card.record.suggestion.reason)
    return "\n".join(lines)
