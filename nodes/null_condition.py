"""Null-Condition Encoder: what "no condition" means to a model, as an explicit choice."""

import os

import folder_paths
import torch
from comfy_api.latest import io

from ..guidance_core.errors import GuidanceError
from ..guidance_core.null import load_null_condition
from .class_condition import class_labels, label_conditioning
from .ui.checks import allowed, choice_of
from .ui.messages import say, speaking_as
from .ui.widgets import chosen

TITLE = "Null-Condition Encoder"
NULL_FOLDER = "null_conditions"

KINDS = {
    "auto": "Class null label for a class-conditional model, empty prompt with clip, zeros with like.",
    "empty prompt": "The text encoder's answer to an empty prompt: SD 1.x, SDXL, most models with prompts. Needs clip.",
    "zeros": "A condition of zeros, in the shape of another one: models trained with zeroed prompts. Needs like.",
    "none": "No condition at all: models that run without one. A UNet with cross-attention refuses it.",
    "learned": "A null condition learned in training, from models/null_conditions.",
    "class null label": "The extra label of a class-conditional model, such as one of the demos. Needs model.",
}

NEEDED = {"empty prompt": "clip", "zeros": "like", "class null label": "model"}  # the socket that a kind needs
UNCONNECTED = object()  # a socket without a link, before a run; None is one whose value is not known yet


def _check_socket(kind: str | None, sockets: dict[str, object], absent: object = None) -> None:
    socket = NEEDED.get(kind)
    if socket and sockets[socket] is absent:
        raise GuidanceError(f"'{kind}' needs the input {socket}: connect it, or choose another kind.")


class NullConditionEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        files = folder_paths.get_filename_list(NULL_FOLDER)
        options = [
            io.DynamicCombo.Option(
                kind,
                [io.Combo.Input("file", options=files, tooltip=f"A file in models/{NULL_FOLDER}.")]
                if kind == "learned"
                else [],
            )
            for kind in KINDS
        ]
        return io.Schema(
            node_id="GuidanceKitNullConditionEncoder",
            display_name=TITLE,
            category="model/conditioning",
            description=(
                'The condition for "no condition", to connect as negative. Which one is right depends on how the model '
                "was trained."
            ),
            search_aliases=[
                "null condition",
                "empty prompt",
                "unconditional",
                "uncond",
                "zero out",
                "negative",
                "unconditional conditioning",
                "negative prompt",
                "cfg",
            ],
            inputs=[
                io.DynamicCombo.Input(
                    "kind", options=options, tooltip="\n".join(f"{kind}: {doc}" for kind, doc in KINDS.items())
                ),
                io.Clip.Input("clip", optional=True, tooltip="For 'empty prompt': the text encoder."),
                io.Conditioning.Input(
                    "like", optional=True, tooltip="For 'zeros': the condition to take the shape from."
                ),
                io.Model.Input("model", optional=True, tooltip="For 'class null label': the class-conditional model."),
            ],
            outputs=[io.Conditioning.Output(tooltip="The condition for nothing, to connect as negative.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, kind=None, clip=UNCONNECTED, like=UNCONNECTED, model=UNCONNECTED) -> bool | str:
        sockets = {"clip": clip, "like": like, "model": model}
        return allowed(TITLE, lambda: _check_socket(choice_of(kind, "kind"), sockets, UNCONNECTED))

    @classmethod
    def fingerprint_inputs(cls, kind, clip=None, like=None, model=None) -> str:
        path = folder_paths.get_full_path(NULL_FOLDER, kind["file"]) if kind["kind"] == "learned" else None
        return f"{kind}:{os.path.getmtime(path)}" if path else str(kind)

    @classmethod
    def execute(cls, kind: dict | None = None, clip=None, like=None, model=None) -> io.NodeOutput:
        with speaking_as(TITLE):
            kind = chosen("kind", kind)
            name = kind["kind"]
            if name == "auto":
                name = _fitting(clip, like, model)
            say(cls.hidden.unique_id, f"{name}: {KINDS[name]}" if kind["kind"] == "auto" else KINDS[name])
            _check_socket(name, {"clip": clip, "like": like, "model": model})
            if name == "empty prompt":
                return io.NodeOutput(clip.encode_from_tokens_scheduled(clip.tokenize("")))
            if name == "zeros":
                return io.NodeOutput([_zeros(part) for part in like])
            if name == "none":
                return io.NodeOutput([[None, {}]])
            if name == "class null label":
                return io.NodeOutput(label_conditioning(model, [len(class_labels(model))]))
            return io.NodeOutput(_learned(kind["file"]))


def _fitting(clip, like, model) -> str:
    """The kind that fits what is connected."""
    if model is not None and getattr(model.model, "class_labels", None):
        return "class null label"
    if clip is not None:
        return "empty prompt"
    if like is not None:
        return "zeros"
    raise GuidanceError("connect the text encoder to clip, or a class-conditional model to model, or choose a kind.")


def _zeros(part: list) -> list:
    cond, extras = part
    zeroed = {key: torch.zeros_like(value) if _is_pooled(key, value) else value for key, value in extras.items()}
    return [torch.zeros_like(cond) if cond is not None else None, zeroed]


def _is_pooled(key: str, value) -> bool:
    return key in ("pooled_output", "conditioning_lyrics") and isinstance(value, torch.Tensor)


def _learned(file: str) -> list:
    path = folder_paths.get_full_path(NULL_FOLDER, file)
    if path is None:
        raise GuidanceError(f"there is no file '{file}' in models/{NULL_FOLDER}.")
    null = load_null_condition(path)
    extras = {} if null.pooled is None else {"pooled_output": null.pooled}
    return [[null.cond, extras]]
