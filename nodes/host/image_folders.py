"""Image classifiers off the shelf: folders of models/classifiers, read by transformers and with no code of theirs."""

import json
import math
import os
from collections import Counter
from functools import lru_cache
from pathlib import Path

import folder_paths
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ...guidance_core.classifier.card_values import MAX_LABELS
from ...guidance_core.classifier.heads import Head, as_head, heads
from ...guidance_core.classifier.names import appearance, composed, label_fault
from ...guidance_core.errors import GuidanceError
from ...guidance_core.frozen import frozen
from .pixels import Prepared

FOLDER = "classifiers"
CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
MAX_JSON = 16 * 2**20  # bytes
MAX_SIDE = 4096  # pixels
MAX_LABEL = 200  # characters
BROKEN = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError, SafetensorError)
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".onnx", ".h5", ".msgpack")


@frozen(eq=False)
class ImageClassifier:
    """network: pixels as `prepared` gives them -> logits [B, K] of the labels."""

    network: nn.Module
    prepared: nn.Module
    labels: tuple[str, ...]
    head: Head


def folders() -> list[str]:
    """The folders in models/classifiers that hold a configuration; looked for anew where one was added or removed."""
    roots = [Path(root) for root in folder_paths.get_folder_paths(FOLDER)]
    found = [name for root in roots if root.is_dir() for name in _in(root, root.stat().st_mtime)]
    return sorted(dict.fromkeys(found))


@lru_cache(maxsize=64)
def _in(root: Path, modified: float) -> tuple[str, ...]:
    return tuple(folder.name for folder in root.iterdir() if (folder / CONFIG).is_file())


def folder_named(name: object) -> Path | None:
    """Where a folder of models/classifiers is; None for what is none there."""
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".."):
        return None
    roots = (Path(root) for root in folder_paths.get_folder_paths(FOLDER))
    return next((root / name for root in roots if os.path.isdir(root / name)), None)


def load_image_classifier(folder: Path) -> ImageClassifier:
    """Read a folder. Raises GuidanceError with what is wrong with it."""
    config = _json(folder, CONFIG)
    _check(folder, config)
    labels, head = _labels(folder, config), _head(folder, config)
    prepared = _prepared(folder, config, _json(folder, PREPROCESSOR))
    with torch.inference_mode(False):
        network = Logits(_network(folder)).eval().requires_grad_(False)
    return ImageClassifier(network, prepared, labels, head)


class Logits(nn.Module):
    """A model of transformers as a plain network: pixels -> logits [B, K]."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixel_values=pixels).logits


def _network(folder: Path) -> nn.Module:
    from transformers import AutoModelForImageClassification

    try:
        network, report = AutoModelForImageClassification.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except BROKEN as error:
        reason = " ".join(str(error).split())[:300]
        raise GuidanceError(f"'{folder.name}' cannot be read as an image classifier: {reason}") from error
    if missing := sorted(report["missing_keys"]):
        raise GuidanceError(
            f"'{folder.name}' lacks weights that its {CONFIG} describes ('{str(missing[0])[:80]}'): it was made for "
            f"another task, or is incomplete. Get it anew, as an image classifier."
        )
    return network


def _json(folder: Path, name: str) -> dict:
    file = folder / name
    if not file.is_file():
        raise GuidanceError(
            f"'{folder.name}' has no {name}: a classifier's folder holds {CONFIG}, {WEIGHTS} and {PREPROCESSOR}, as "
            f"they are on the hub."
        )
    if file.stat().st_size > MAX_JSON:
        raise GuidanceError(f"'{folder.name}' has a {name} of more than {MAX_JSON // 2**20} MiB: get it anew.")
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise GuidanceError(f"'{folder.name}' has a {name} that is not JSON: get it anew.") from error
    if not isinstance(read, dict):
        raise GuidanceError(f"'{folder.name}' has a {name} that describes nothing: get it anew.")
    return read


def _check(folder: Path, config: dict) -> None:
    """Raise GuidanceError for what would run code, or is stored in a way that can."""
    if "auto_map" in config:
        raise GuidanceError(
            f"'{folder.name}' asks for code of its own to be run (auto_map), which is never done: use a classifier of "
            f"a kind that transformers brings along."
        )
    if "quantization_config" in config:
        raise GuidanceError(f"'{folder.name}' is quantised, so that it has no gradient: use its full weights.")
    if (folder / WEIGHTS).is_file():
        return
    other = next((file.name for file in sorted(folder.iterdir()) if file.suffix in PICKLES), None)
    if other is not None:
        raise GuidanceError(
            f"'{folder.name}' has its weights in '{other[:80]}', and only {WEIGHTS} is read, since files of other "
            f"kinds can run code: get or make a safetensors version."
        )
    raise GuidanceError(f"'{folder.name}' has no {WEIGHTS}: get the folder's weights in one file of that name.")


def _labels(folder: Path, config: dict) -> tuple[str, ...]:
    names = config.get("id2label")
    if not isinstance(names, dict) or not names:
        raise GuidanceError(f"'{folder.name}' names no labels (id2label in its {CONFIG}): it is no image classifier.")
    if len(names) > MAX_LABELS:
        raise GuidanceError(f"'{folder.name}' has {len(names)} labels; up to {MAX_LABELS} can be steered to.")
    if set(names) != {str(place) for place in range(len(names))}:
        raise GuidanceError(f"'{folder.name}' does not number its labels from 0 on (id2label in its {CONFIG}).")
    labels, seen = [], Counter()
    for place in range(len(names)):
        label = names[str(place)]
        if not isinstance(label, str) or len(label) > MAX_LABEL:
            raise GuidanceError(f"'{folder.name}' has a label that is no name of up to {MAX_LABEL} characters.")
        if fault := label_fault([label]):
            raise GuidanceError(f"'{folder.name}' has a label that no target can name: labels {fault}.")
        look = appearance(label)
        seen[look] += 1
        labels.append(composed(label) if seen[look] == 1 else f"{look} ({seen[look]})")  # ImageNet has two cranes
    return tuple(labels)


def _head(folder: Path, config: dict) -> Head:
    problem = config.get("problem_type")
    if problem is None:
        return as_head("regression" if len(config["id2label"]) == 1 else "single")
    for head in heads().values():
        if head.problem_type == problem:
            return head
    raise GuidanceError(f"'{folder.name}' solves a problem that is not known here ('{str(problem)[:40]}').")


def _prepared(folder: Path, config: dict, said: dict) -> Prepared:
    mean, std = (said.get(key, 0.5) for key in ("image_mean", "image_std"))
    mean, std = ([value] * 3 if _is_number(value) else value for value in (mean, std))
    for values in (mean, std):
        if not isinstance(values, list) or len(values) != 3 or not all(map(_is_number, values)):
            raise GuidanceError(f"'{folder.name}' has no mean and deviation of three colours in its {PREPROCESSOR}.")
    if not all(value > 0 for value in std):
        raise GuidanceError(f"'{folder.name}' has a deviation of colours that is not above 0 in its {PREPROCESSOR}.")
    size = said.get("crop_size") or said.get("size") or config.get("image_size")
    if isinstance(size, dict):
        side = size.get("shortest_edge")
        size = [size.get("height", side), size.get("width", side)]
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(_is_number(side) and side == int(side) and 1 <= side <= MAX_SIDE for side in sides):
        raise GuidanceError(f"'{folder.name}' has no size of pictures up to {MAX_SIDE} pixels in its {PREPROCESSOR}.")
    return Prepared((int(sides[0]), int(sides[1])), [float(v) for v in mean], [float(v) for v in std])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
