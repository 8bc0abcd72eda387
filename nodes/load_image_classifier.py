"""Load Image Classifier: a folder of models/classifiers that knows clean pictures, for guidance at each prediction."""

import os

from comfy_api.latest import io

from ..guidance_core.errors import GuidanceError
from ..guidance_core.terms.target_text import written
from .host.classifiers import PictureClassifier
from .host.clean_view import view_through
from .host.image_folders import FOLDER, WEIGHTS, folder_named, folders, load_image_classifier
from .host.patchers import patcher_of
from .host.types import CLEAN_CLASSIFIER
from .ui.messages import say, speaking_as

TITLE = "Load Image Classifier"


class LoadImageClassifier(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitLoadImageClassifier",
            display_name=TITLE,
            category="model/loaders",
            description=(
                "An image classifier off the shelf: a folder in models/classifiers with config.json, "
                "model.safetensors and preprocessor_config.json, as they are on the hub. It judges the picture that "
                "the model predicts at each step, and works with every model of pictures. Nothing in the folder is "
                "executed."
            ),
            search_aliases=[
                "classifier",
                "image classifier",
                "nsfw",
                "clean classifier",
                "vit",
                "resnet",
                "huggingface",
            ],
            inputs=[
                io.Combo.Input("folder", options=folders(), tooltip="A folder in models/classifiers."),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Decodes what the model predicts, so that the classifier sees a picture: the model's own "
                    "VAE, or a small one (taesd and its kin in Load VAE), which is far quicker. Without one it sees "
                    "the preview's rough colours.",
                ),
            ],
            outputs=[
                CLEAN_CLASSIFIER.Output(
                    "classifier", tooltip="Judges what a picture shows, by the labels of its folder."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, folder: str | None = None) -> bool | str:
        if folder is None:  # missing, which ComfyUI says, or a linked value, which execute checks
            return True
        if folder_named(folder) is None:
            return f"{TITLE}: there is no folder '{folder}' in models/{FOLDER}; put it there and press R."
        return True

    @classmethod
    def fingerprint_inputs(cls, folder: str, vae=None) -> str:
        path = folder_named(folder)
        weights = path / WEIGHTS if path else None
        return f"{folder}:{os.path.getmtime(weights)}" if weights and weights.is_file() else str(folder)

    @classmethod
    def execute(cls, folder: str, vae=None) -> io.NodeOutput:
        with speaking_as(TITLE):
            path = folder_named(folder)
            if path is None:
                raise GuidanceError(f"there is no folder '{folder}' in models/{FOLDER}.")
            loaded, view = load_image_classifier(path), view_through(vae)
        patcher = patcher_of(loaded.network)
        classifier = PictureClassifier(loaded.network, loaded.prepared, loaded.labels, loaded.head, view, patcher)
        shown = ", ".join(written(label) for label in loaded.labels[:12])
        more = f" and {len(loaded.labels) - 12} more" if len(loaded.labels) > 12 else ""
        say(cls.hidden.unique_id, f"{loaded.head.titled(len(loaded.labels))}: {shown}{more}\n{view.note}")
        return io.NodeOutput(classifier)
