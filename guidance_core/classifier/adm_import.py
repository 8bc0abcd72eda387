"""Import ADM's published classifiers (`64x64_classifier.pt` to `512x512_classifier.pt`) as NoisyClassifiers."""

import os
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..errors import GuidanceError
from .adm import SCHEDULES, AdmEncoder, step_log_snrs
from .card import Card, Record
from .card_values import MAX_LABELS
from .network import check_finite
from .noisy import NoisyClassifier

MAX_BLOCKS = 256

Shapes = dict[str, tuple[int, ...]]


def import_adm(
    file: str | os.PathLike,
    labels: Sequence[str] | None = None,
    image_size: int | None = None,
    schedule: str | None = None,
    head_channels: int = 64,
) -> NoisyClassifier:
    """A NoisyClassifier from a checkpoint of ADM's classifier, its architecture read off the shapes of its weights.

    Nothing in the file is executed. labels: names in the checkpoint's order; numbered where not given. image_size: only
    needed where the weights fit several. schedule: of its noise, "linear" or "cosine"; by default that of the published
    models, cosine at 64 pixels and else linear. head_channels: of each attention head.
    Raises GuidanceError for a file that cannot be read or is none.
    """
    name = os.path.basename(file)
    state = _state(Path(file))
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    fitting = [p for p in _readings(shapes, head_channels, name) if image_size in (None, p["image_size"])]
    if not fitting:
        raise GuidanceError(
            f"'{name}' is not one of ADM's classifiers: its weights fit no encoder with an attention pool"
            f"{f' for {image_size} pixels' if image_size else ''}."
        )
    if len(fitting) > 1:
        sizes = ", ".join(str(p["image_size"]) for p in fitting)
        raise GuidanceError(f"The weights of '{name}' fit pictures of {sizes} pixels: say the image size.")
    schedule = schedule or ("cosine" if fitting[0]["image_size"] == 64 else "linear")
    if schedule not in SCHEDULES:
        raise GuidanceError(f"There is no ADM noise schedule '{schedule}'; choose one of {', '.join(SCHEDULES)}.")
    parameters = fitting[0] | {"schedule": schedule}
    with torch.inference_mode(False):
        with torch.device("meta"):
            network = AdmEncoder(**parameters)
        weights = {key: tensor.to(torch.float32, copy=True) for key, tensor in state.items()}
        check_finite(weights, name)
        network.load_state_dict(weights, assign=True)
    network.eval().requires_grad_(False)
    levels = step_log_snrs(schedule, network.steps)
    card = Card(
        _named(labels, parameters["classes"]),
        "pixels",
        (float(levels[-1]), float(levels[0])),
        "adm_encoder",
        parameters,
        record=Record(path="VP", training={"imported_from": name}),
    )
    return NoisyClassifier(network, card)


def _named(labels: Sequence[str] | None, classes: int) -> list[str]:
    """Labels that differ; a name that comes again gets its number."""
    if labels is None:
        return [f"class {i}" for i in range(classes)]
    if len(labels) != classes:
        raise GuidanceError(f"The classifier has {classes} classes and was given {len(labels)} labels.")
    first = {label: i for i, label in reversed(list(enumerate(labels)))}
    return [label if first[label] == i else f"{label} ({i})" for i, label in enumerate(labels)]


def _state(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name. Raises GuidanceError unless it holds nothing else."""
    if not os.path.isfile(file):
        raise GuidanceError(f"There is no file '{file.name}' in {file.parent}.")
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise ValueError("its archive is compressed, which no checkpoint is")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it has doubts about is refused below
            state = torch.load(file, map_location="cpu", weights_only=True)
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        OSError,
        RuntimeError,
        SafetensorError,  # newer versions of torch.load read such files too
        TypeError,
        ValueError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        raise GuidanceError(
            f"'{file.name}' is not a checkpoint that holds weights alone ({str(error).partition(chr(10))[0][:200]}). "
            f"What would have to be executed is not loaded."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and _real(v) for k, v in state.items()):
        raise GuidanceError(f"'{file.name}' is a checkpoint, but not a table of weights by name.")
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > os.path.getsize(file):
        raise GuidanceError(f"'{file.name}' declares more weights than it holds.")
    return state


def _real(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided


def _readings(shapes: Shapes, head_channels: int, name: str) -> Iterator[dict]:
    """Every set of AdmEncoder's parameters whose weights have these shapes: resolutions can be told apart by them."""
    try:
        width, channels = shapes["time_embed.0.weight"][1], shapes["input_blocks.0.0.weight"][1]
        classes, positions = shapes["out.2.c_proj.weight"][0], shapes["out.2.positional_embedding"][1] - 1
        blocks = 1 + max(int(key.split(".")[1]) for key in shapes if key.startswith("input_blocks."))
        if not (1 <= blocks <= MAX_BLOCKS and classes <= MAX_LABELS):
            raise ValueError(f"{blocks} blocks, {classes} classes")
        outs = [shapes[f"input_blocks.{i}.0.out_layers.3.weight"][0] for i in range(1, blocks)]
    except (LookupError, ValueError) as error:
        raise GuidanceError(f"'{name}' is not one of ADM's classifiers: {error} is not as in those.") from error
    for levels in (n for n in range(1, blocks // 2 + 1) if blocks % n == 0):
        depth, image_size = blocks // levels - 1, round(positions**0.5) << (levels - 1)
        firsts = range(1, blocks, depth + 1)
        parameters = {
            "channels": channels,
            "classes": classes,
            "image_size": image_size,
            "width": width,
            "multipliers": [outs[i - 1] / width for i in firsts],
            "depth": depth,
            "attention": [image_size >> n for n, i in enumerate(firsts) if f"input_blocks.{i}.1.qkv.weight" in shapes],
            "head_channels": head_channels,
        }
        if _outline(parameters) == shapes:
            yield parameters


def _outline(parameters: dict) -> Shapes | None:
    try:
        with torch.device("meta"):
            return {key: tuple(tensor.shape) for key, tensor in AdmEncoder(**parameters).state_dict().items()}
    except (ArithmeticError, LookupError, RuntimeError, ValueError):
        return None
