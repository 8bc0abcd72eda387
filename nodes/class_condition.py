"""Class Condition: a class label as CONDITIONING, for class-conditional models."""

import torch
from comfy_api.latest import io

from ..guidance_core.errors import GuidanceError
from ..guidance_core.terms.label_names import LabelNames
from .ui.checks import written
from .ui.messages import speaking_as

TITLE = "Class Condition"


def class_labels(model) -> tuple[str, ...]:
    """The class names of a class-conditional MODEL. Raises GuidanceError for any other model."""
    labels = getattr(model.model, "class_labels", None)
    if not labels:
        raise GuidanceError(
            "this model is not class-conditional, it has no class labels; for a model with prompts "
            "use CLIP Text Encode."
        )
    return labels


def label_conditioning(model, indices: list[int]) -> list:
    """A model's CONDITIONING of class indices, one a sample of the batch (repeated in turn when there are fewer)."""
    return [[model.model.class_condition(torch.tensor(indices)), {}]]


class ClassCondition(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitClassCondition",
            display_name=TITLE,
            category="model/conditioning",
            description="The class to sample, for a class-conditional model such as one of the demos.",
            search_aliases=["class label", "label", "class conditional", "class-conditional", "positive", "imagenet"],
            inputs=[
                io.Model.Input("model", tooltip="A class-conditional model, such as one of the demos."),
                io.String.Input(
                    "label",
                    default="",
                    placeholder="seven",
                    tooltip="A class that the model knows, such as seven; seven | three alternates over the batch.",
                ),
            ],
            outputs=[io.Conditioning.Output(tooltip="The class as a condition, to connect as positive or negative.")],
        )

    @classmethod
    def validate_inputs(cls, label=None) -> bool | str:
        return written(TITLE, "label", label, "a class that the model knows, such as seven")

    @classmethod
    def execute(cls, model, label: str) -> io.NodeOutput:
        with speaking_as(TITLE):
            names = LabelNames(class_labels(model))
            return io.NodeOutput(label_conditioning(model, [names.index(name) for name in label.split("|")]))
