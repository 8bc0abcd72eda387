"""Load Noisy Classifier: a file from models/noisy_classifiers, under ComfyUI's memory management."""

import os

import comfy.model_management
import folder_paths
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..guidance_core.classifier.noisy import NoisyClassifier
from ..guidance_core.errors import GuidanceError
from .messages import speaking_as
from .types import NOISY_CLASSIFIER, HostClassifier

TITLE = "Load Noisy Classifier"
CLASSIFIER_FOLDER = "noisy_classifiers"


def host_classifier(classifier: NoisyClassifier) -> HostClassifier:
    """A classifier that ComfyUI loads and unloads together with the diffusion model."""
    patcher = ModelPatcher(
        classifier.network,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    return HostClassifier(classifier, patcher)


class LoadNoisyClassifier(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitLoadNoisyClassifier",
            display_name=TITLE,
            category="model/loaders",
            description="A noisy classifier (.safetensors) from models/noisy_classifiers. Nothing in it is executed.",
            search_aliases=["classifier", "noisy classifier", "classifier guidance"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folder_paths.get_filename_list(CLASSIFIER_FOLDER),
                    tooltip="A file in models/noisy_classifiers.",
                )
            ],
            outputs=[NOISY_CLASSIFIER.Output("classifier")],
        )

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        if folder_paths.get_full_path(CLASSIFIER_FOLDER, file) is None:
            return f"{TITLE}: there is no file '{file}' in models/{CLASSIFIER_FOLDER}; put it there and press R."
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        path = folder_paths.get_full_path(CLASSIFIER_FOLDER, file)
        return f"{file}:{os.path.getmtime(path)}" if path else file

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        with speaking_as(TITLE):
            path = folder_paths.get_full_path(CLASSIFIER_FOLDER, file)
            if path is None:
                raise GuidanceError(f"there is no file '{file}' in models/{CLASSIFIER_FOLDER}.")
            return io.NodeOutput(host_classifier(NoisyClassifier.load(path)))
