"""Guidance Target: what to steer to, chosen from the labels that a classifier's file lists."""

import os
from functools import lru_cache

import folder_paths
from comfy_api.latest import io

from ..guidance_core.classifier.noisy import read_card
from ..guidance_core.demo.data import LABELS
from ..guidance_core.errors import GuidanceError
from ..guidance_core.terms.targets import written
from .host.classifier_files import CLASSIFIER_FOLDER
from .ui.messages import say, speaking_as
from .ui.widgets import chosen

TITLE = "Guidance Target"
DEMO = "digits demo"
MOST_LABELS = 2000  # in a list to choose from


@lru_cache(maxsize=4096)
def _labels_in(path: str, modified: float) -> tuple[str, ...]:
    try:
        return tuple(read_card(path).labels[:MOST_LABELS])
    except GuidanceError:
        return ()


def labels_by_file() -> dict[str, tuple[str, ...]]:
    """The labels of every classifier that can be loaded; of a file only the header is read, and that once."""
    found = {DEMO: LABELS}
    for name in folder_paths.get_filename_list(CLASSIFIER_FOLDER):
        path = folder_paths.get_full_path(CLASSIFIER_FOLDER, name)
        if path and (labels := _labels_in(path, os.path.getmtime(path))):
            found[name] = labels
    return found


class GuidanceTarget(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        options = [
            io.DynamicCombo.Option(
                name, [io.Combo.Input("label", options=list(labels), tooltip="What to steer to, or away from.")]
            )
            for name, labels in labels_by_file().items()
        ]
        return io.Schema(
            node_id="GuidanceKitGuidanceTarget",
            display_name=TITLE,
            category="model/sampling/guidance",
            description=(
                "A target for Classifier Guidance, chosen from the classifier's own labels. Chain several to steer to "
                "one and away from another."
            ),
            search_aliases=[
                "target",
                "label",
                "choose label",
                "classifier",
                "negative",
                "class",
                "classifier guidance",
            ],
            inputs=[
                io.DynamicCombo.Input(
                    "classifier",
                    options=options,
                    tooltip="The classifier whose labels to choose from: the file that is loaded.",
                ),
                io.Boolean.Input(
                    "away",
                    default=False,
                    label_on="away from it",
                    label_off="towards it",
                    tooltip="Which way to steer.",
                ),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=0.01,
                    max=100.0,
                    step=0.05,
                    round=0.01,
                    tooltip="How much this label counts beside the others of the target.",
                ),
                io.String.Input(
                    "add_to",
                    default="",
                    optional=True,
                    placeholder="seven, -three",
                    tooltip="A target, or another Guidance Target, to which this label is added.",
                ),
            ],
            outputs=[io.String.Output("target")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, away: bool, weight: float, classifier: dict | None = None, add_to: str | None = None
    ) -> io.NodeOutput:
        with speaking_as(TITLE):
            label = chosen("classifier", classifier)["label"]
        target = written(label, weight, away)
        target = f"{add_to.strip()}, {target}" if add_to and add_to.strip() else target
        say(cls.hidden.unique_id, target)
        return io.NodeOutput(target)
