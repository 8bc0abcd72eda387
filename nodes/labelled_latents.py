"""Labelled Latents: batches of latents in the graph, one label each."""

from comfy_api.latest import io

from ..guidance_core.errors import GuidanceError, shortened
from .host.labelled import LabelledLatents, joined, of_one_label
from .host.types import LABELLED_LATENTS
from .ui.checks import written
from .ui.messages import say, speaking_as

TITLE = "Labelled Latents"


class LabelledLatentsNode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitLabelledLatents",
            display_name=TITLE,
            category="model/training",
            description=(
                "Examples for Train Noisy Classifier: every latent batch gets one label. Pictures that the model "
                "itself has sampled make good examples of everything else: label them other."
            ),
            search_aliases=[
                "labeled latents",
                "label",
                "training set",
                "classifier data",
                "dataset",
                "negatives",
                "other",
            ],
            inputs=[
                io.Autogrow.Input(
                    "latents",
                    template=io.Autogrow.TemplatePrefix(io.Latent.Input("latent"), prefix="latent", min=1, max=50),
                    tooltip="From VAE Encode, or from a sampler.",
                ),
                io.String.Input(
                    "labels",
                    default="",
                    placeholder="my style, other",
                    tooltip="One label for each connected latent, by comma, in their order.",
                ),
                LABELLED_LATENTS.Input(
                    "examples", optional=True, tooltip="Examples of another node, to which these are added."
                ),
            ],
            outputs=[
                LABELLED_LATENTS.Output("examples", tooltip="The labelled latents of this node and of those before it.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, labels=None, latents=None) -> bool | str:
        return written(TITLE, "labels", labels, "one label for each connected latent, by comma")

    @classmethod
    def execute(cls, latents: dict, labels: str, examples: LabelledLatents | None = None) -> io.NodeOutput:
        batches = [latent["samples"] for latent in latents.values() if latent is not None]
        names = [name.strip() for name in labels.split(",") if name.strip()]
        with speaking_as(TITLE):
            if len(names) != len(batches):
                raise GuidanceError(
                    f"there are {len(batches)} latent batches and {len(names)} labels ('{shortened(labels)}'): write "
                    f"one label for each, by comma."
                )
            for batch, name in zip(batches, names, strict=True):
                examples = joined(examples, of_one_label(batch.cpu().float(), name))
        say(cls.hidden.unique_id, examples.counts())
        return io.NodeOutput(examples)
