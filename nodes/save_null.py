"""Save Null Condition: any condition, or the mean of many, to a file that Null-Condition Encoder reads as 'learned'."""

from contextlib import nullcontext

import torch
from comfy_api.latest import io
from torch import Tensor

from ..guidance_core.errors import GuidanceError
from ..guidance_core.null import NullCondition
from .host.classifier_files import file_named, new_file, numbered, relative
from .null_condition import NULL_FOLDER
from .ui.messages import say, speaking_as

TITLE = "Save Null Condition"


class SaveNullCondition(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitSaveNullCondition",
            display_name=TITLE,
            category="model/conditioning",
            description=(
                "Writes a condition to models/null_conditions, to stand for 'no condition'. Press R, and "
                "Null-Condition Encoder lists it under 'learned'."
            ),
            search_aliases=["null condition", "save conditioning", "mean prompt", "average conditioning", "uncond"],
            is_output_node=True,
            inputs=[
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="What to save: from Learn Null Condition, or any prompt. Several that Conditioning "
                    "(Combine) has joined are saved as their mean.",
                ),
                io.String.Input("name", default="my null", tooltip="The name of the file; / makes a folder."),
                io.Boolean.Input(
                    "replace",
                    default=False,
                    tooltip="Write over a file of this name; off: a number is added to the name.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, conditioning: list, name: str, replace: bool) -> io.NodeOutput:
        with speaking_as(TITLE):
            null, count = mean_of(conditioning)
            file = file_named(name, NULL_FOLDER, "a null condition")
            with nullcontext(file) if replace else new_file(numbered(file)) as file:
                null.save(file)
        mean = f", the mean of {count}" if count > 1 else ""
        say(cls.hidden.unique_id, f"Saved as {relative(file, NULL_FOLDER)}{mean}. Press R to choose it as 'learned'.")
        return io.NodeOutput()


def mean_of(conditioning: list) -> tuple[NullCondition, int]:
    """(the mean of a CONDITIONING's parts and of their batches, how many they were).

    Raises GuidanceError for parts without an embedding, and for parts of several shapes.
    """
    conds = [cond for cond, _ in conditioning]
    if not conds or any(cond is None or cond.ndim != 3 for cond in conds):
        raise GuidanceError("this condition has no embedding [1, tokens, width] that could be saved: connect a prompt.")
    pooled = [extras["pooled_output"] for _, extras in conditioning if extras.get("pooled_output") is not None]
    if len(pooled) not in (0, len(conds)):
        raise GuidanceError(
            "some of these conditions have a pooled output and some have none: join prompts of one model."
        )
    whole = _mean("conditions", conds)
    return NullCondition(whole, _mean("pooled outputs", pooled) if pooled else None), sum(map(len, conds))


def _mean(what: str, tensors: list[Tensor]) -> Tensor:
    shapes = sorted({str(list(tensor.shape[1:])) for tensor in tensors})
    if len(shapes) > 1:
        raise GuidanceError(
            f"the {what} have several shapes, {' and '.join(shapes)}, of which there is no mean: use prompts of one "
            f"model, of one length."
        )
    return torch.cat([tensor.float().cpu() for tensor in tensors]).mean(0, keepdim=True)
