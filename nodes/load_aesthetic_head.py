"""Load Aesthetic Head: a score of how pictures please, learned over a CLIP vision model, for guidance."""

import os

import comfy.model_management
import torch
from comfy_api.latest import io

from ..guidance_core.classifier.heads import as_head
from ..guidance_core.errors import GuidanceError
from .host.aesthetic import AestheticScore, check_fits, head_named, heads, load_head
from .host.classifiers import PictureClassifier
from .host.clean_view import view_through
from .host.embeddings import embedded, embedder_of
from .host.image_folders import FOLDER
from .host.patchers import patcher_of
from .host.types import CLEAN_CLASSIFIER, vae_input
from .ui.messages import say, speaking_as

TITLE = "Load Aesthetic Head"
LABEL = "score"


class LoadAestheticHead(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitLoadAestheticHead",
            display_name=TITLE,
            category="model/loaders",
            description=(
                "A score over a CLIP vision model's view of a picture: a file of linear layers in models/classifiers, "
                "such as the LAION aesthetic predictors. Connect it to Classifier Guidance with the target score, or "
                "-score for less of it. Nothing in the file is executed."
            ),
            search_aliases=["aesthetic", "score", "laion", "reward", "clip vision", "predictor", "classifier"],
            inputs=[
                io.Combo.Input("file", options=heads(), tooltip="A file in models/classifiers."),
                io.ClipVision.Input("clip_vision", tooltip="The CLIP vision model that the score was learned over."),
                vae_input("scored"),
            ],
            outputs=[CLEAN_CLASSIFIER.Output("classifier", tooltip="Judges how much a picture pleases.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        if file is None:  # missing, which ComfyUI says, or a linked value, which execute checks
            return True
        if head_named(file) is None:
            return f"{TITLE}: there is no file '{file}' in models/{FOLDER}; put it there and press R."
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str, clip_vision=None, vae=None) -> str:
        path = head_named(file)
        return f"{file}:{os.path.getmtime(path)}" if path else str(file)

    @classmethod
    def execute(cls, file: str, clip_vision, vae=None) -> io.NodeOutput:
        with speaking_as(TITLE):
            path = head_named(file)
            if path is None:
                raise GuidanceError(f"there is no file '{file}' in models/{FOLDER}.")
            head, (embedder, prepared), view = load_head(path), embedder_of(clip_vision), view_through(vae)
            network = AestheticScore(embedder, head)
            patcher = patcher_of(network)
            comfy.model_management.load_models_gpu([patcher])
            grey = torch.full((1, 8, 8, 3), 0.5)
            check_fits(path, head, embedded(embedder, prepared, grey, patcher.load_device).shape[1])
        classifier = PictureClassifier(network, prepared, (LABEL,), as_head("regression"), view, patcher)
        say(cls.hidden.unique_id, f"Layers: {len(head)}. Target: {LABEL}\n{view.note}")
        return io.NodeOutput(classifier)
