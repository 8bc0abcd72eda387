"""Text References: texts to be like and unlike, as CLIP sees them, as a classifier for guidance at each prediction."""

import torch
from comfy_api.latest import io

from ..guidance_core.classifier.heads import as_head
from ..guidance_core.terms.target_text import labels_in, parse_target
from .host.classifiers import PictureClassifier
from .host.clean_view import view_through
from .host.embeddings import Likeness, embedder_of
from .host.patchers import patcher_of
from .host.text_towers import embedded_texts, shared_width
from .host.types import CLEAN_CLASSIFIER, vae_input
from .ui.checks import written
from .ui.messages import say, speaking_as

TITLE = "Text References"
EXAMPLE = "what the picture should be like, such as a smiling face, -blurry"


class TextReferences(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitTextReferences",
            display_name=TITLE,
            category="model/sampling/guidance",
            description=(
                "Steers towards what texts say, and away from other texts, as CLIP sees the picture that the model "
                "predicts at each step: CLIP guidance. Connect both outputs to Classifier Guidance. Needs the vision "
                "and the text tower of the same CLIP; works with every model of pictures."
            ),
            search_aliases=["clip guidance", "text", "prompt", "reference", "clip", "clip vision", "classifier"],
            inputs=[
                io.ClipVision.Input("clip_vision", tooltip="The vision tower of a CLIP: ViT-L, ViT-H or ViT-bigG."),
                io.Clip.Input("clip", tooltip="A text encoder with the text tower of the same CLIP."),
                io.String.Input(
                    "text",
                    default="",
                    multiline=False,
                    placeholder="a smiling face, -blurry",
                    tooltip="Texts, by comma: a smiling face, -blurry steers to the first and away from the second; "
                    "(blurry:0.5) is weaker; one | another alternates over the batch.",
                ),
                vae_input("compared"),
            ],
            outputs=[
                CLEAN_CLASSIFIER.Output("classifier", tooltip="Scores how like each text a picture is."),
                io.String.Output("target", tooltip="The text, for the target of a guidance node."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, text=None) -> bool | str:
        return written(TITLE, "text", text, EXAMPLE)

    @classmethod
    def execute(cls, clip_vision, clip, text: str, vae=None) -> io.NodeOutput:
        head = as_head("regression")
        with speaking_as(TITLE):
            labels = labels_in(text)
            parse_target(text, labels, head)
            texts = embedded_texts(clip, labels, shared_width(clip_vision))
            (embedder, prepared), view = embedder_of(clip_vision), view_through(vae)
        with torch.inference_mode(False):
            network = Likeness(embedder, [row.clone()[None] for row in texts])
        classifier = PictureClassifier(network, prepared, labels, head, view, patcher_of(embedder))
        told = f"Target: {' '.join(text.split())}\nEach text has a score, of 100 at most."
        say(cls.hidden.unique_id, f"{told}\n{view.note}")
        return io.NodeOutput(classifier, text)
