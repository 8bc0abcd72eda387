"""Load Noisy Classifier: a file from models/noisy_classifiers, under ComfyUI's memory management."""

import os

import folder_paths
from comfy_api.latest import io

from ..guidance_core.classifier.noisy import NoisyClassifier
from ..guidance_core.errors import GuidanceError
from .host.classifier_files import CLASSIFIER_FOLDER, host_classifier, summary
from .host.types import NOISY_CLASSIFIER
from .ui.messages import say, speaking_as

TITLE = "Load Noisy Classifier"


class LoadNoisyClassifier(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitLoadNoisyClassifier",
            display_name=TITLE,
            category="model/loaders",
            description="A noisy classifier (.safetensors) from models/noisy_classifiers. Nothing in it is executed.",
            search_aliases=["classifier", "load classifier", "classifier guidance", "safetensors"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folder_paths.get_filename_list(CLASSIFIER_FOLDER),
                    tooltip="A file in models/noisy_classifiers.",
                )
            ],
            outputs=[NOISY_CLASSIFIER.Output("classifier", tooltip="Judges noisy latents, by the labels of its file.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        if file is None:  # missing, which ComfyUI says, or a linked value, which execute checks
            return True
        if _path(file) is None:
            return f"{TITLE}: there is no file '{file}' in models/{CLASSIFIER_FOLDER}; put it there and press R."
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        path = _path(file)
        return f"{file}:{os.path.getmtime(path)}" if path else str(file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        with speaking_as(TITLE):
            path = _path(file)
            if path is None:
                raise GuidanceError(f"there is no file '{file}' in models/{CLASSIFIER_FOLDER}.")
            classifier = NoisyClassifier.load(path)
        say(cls.hidden.unique_id, summary(classifier.card))
        return io.NodeOutput(host_classifier(classifier))


def _path(file: object) -> str | None:
    """Where a file of the folder is; None for what is no file there."""
    return folder_paths.get_full_path(CLASSIFIER_FOLDER, file) if isinstance(file, str) else None
