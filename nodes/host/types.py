"""The socket types of the pack, and what travels on them."""

from dataclasses import dataclass

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ...guidance_core.classifier.noisy import NoisyClassifier

SCALE_SCHEDULE = io.Custom("SCALE_SCHEDULE")
NOISY_CLASSIFIER = io.Custom("NOISY_CLASSIFIER")
LABELLED_LATENTS = io.Custom("LABELLED_LATENTS")


@dataclass(frozen=True, eq=False)
class HostClassifier:
    """What NOISY_CLASSIFIER carries: a classifier and the patcher by which ComfyUI moves its network."""

    classifier: NoisyClassifier
    patcher: ModelPatcher
