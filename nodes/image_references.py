"""Image References: pictures to be like, and pictures to be unlike, as a classifier for guidance at each prediction."""

import comfy.model_management
import torch
from comfy_api.latest import io

from ..guidance_core.classifier.heads import as_head
from .host.classifiers import PictureClassifier
from .host.clean_view import view_through
from .host.embeddings import Likeness, embedded, embedder_of
from .host.patchers import patcher_of
from .host.types import CLEAN_CLASSIFIER, vae_input
from .ui.messages import say, speaking_as

TITLE = "Image References"
LIKE, UNLIKE = "reference", "other"


class ImageReferences(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitImageReferences",
            display_name=TITLE,
            category="model/sampling/guidance",
            description=(
                "Steers towards pictures that you show, and away from others: their likeness as a CLIP vision model "
                "sees it, in what the model predicts at each step. Connect it to Classifier Guidance with the target "
                "reference. Works with every model of pictures."
            ),
            search_aliases=["reference", "style", "image prompt", "clip vision", "similar", "likeness", "classifier"],
            inputs=[
                io.ClipVision.Input("clip_vision", tooltip="What compares pictures: CLIP, SigLIP or DINO."),
                io.Image.Input("images", tooltip="The pictures to be like; of several their mean counts."),
                io.Image.Input(
                    "others",
                    optional=True,
                    tooltip="Pictures to be unlike. With them it is told what matters: what the first have and these "
                    "have not.",
                ),
                vae_input("compared"),
            ],
            outputs=[CLEAN_CLASSIFIER.Output("classifier", tooltip="Judges how like the references a picture is.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, clip_vision, images, others=None, vae=None) -> io.NodeOutput:
        with speaking_as(TITLE):
            (embedder, prepared), view = embedder_of(clip_vision), view_through(vae)
            patcher = patcher_of(embedder)
            comfy.model_management.load_models_gpu([patcher])
            shown = [images] if others is None else [images, others]
            groups = [embedded(embedder, prepared, group, patcher.load_device) for group in shown]
        labels, head = ((LIKE,), "regression") if others is None else ((LIKE, UNLIKE), "single")
        with torch.inference_mode(False):
            network = Likeness(embedder, groups)
        classifier = PictureClassifier(network, prepared, labels, as_head(head), view, patcher)
        counts = f"{len(images)} to be like" + ("" if others is None else f", {len(others)} to be unlike")
        say(cls.hidden.unique_id, f"{counts}. Target: {LIKE}\n{view.note}")
        return io.NodeOutput(classifier)
