"""Guidance Target: what to steer to, chosen from the labels that a classifier's file lists."""

import os
from functools import lru_cache
from itertools import accumulate

import folder_paths
from comfy_api.latest import io

from ..guidance_core.classifier.noisy import read_fitting_card
from ..guidance_core.demo.data import LABELS
from ..guidance_core.errors import GuidanceError
from ..guidance_core.terms.target_text import written
from .host.classifier_files import CLASSIFIER_FOLDER
from .ui.messages import say, speaking_as
from .ui.widgets import chosen

TITLE = "Guidance Target"
DEMO = "digits demo"
MOST_LABELS = 2000  # of one classifier, in a list to choose from
MOST_LETTERS = 2**16  # of the labels of one classifier
MOST_LETTERS_OF_ALL = 2**20  # a page asks for the menus of every node at once


@lru_cache(maxsize=4096)
def _labels_in(path: str, modified: float) -> tuple[str, ...]:
    """The labels of a file that can be loaded, as many as a menu holds; none of any other."""
    try:
        labels = read_fitting_card(path).labels[:MOST_LABELS]
    except GuidanceError:
        return ()
    lengths = accumulate(map(len, labels))
    return tuple(label for label, length in zip(labels, lengths, strict=True) if length <= MOST_LETTERS)


def _changed(path: str) -> float:
    """When a file was last changed; 0 for one that is gone by now."""
    try:
        return os.path.getmtime(path)
    except OSError:
        return 0.0


def labels_by_file() -> dict[str, tuple[str, ...]]:
    """The labels of every classifier that can be loaded; of a file only the header is read, and that once.

    Where there are so many that a page would load slowly, the rest are left out: their labels can be written as text.
    """
    found, room = {DEMO: LABELS}, MOST_LETTERS_OF_ALL
    for name in folder_paths.get_filename_list(CLASSIFIER_FOLDER):
        path = folder_paths.get_full_path(CLASSIFIER_FOLDER, name)
        labels = _labels_in(path, _changed(path)) if path else ()
        room -= len(name) + sum(len(label) + len('"", ') for label in labels)
        if room < 0:
            break
        if labels:
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
            outputs=[io.String.Output("target", tooltip="The target as text, for the target of a guidance node.")],
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
