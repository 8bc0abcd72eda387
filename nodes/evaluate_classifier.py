"""Evaluate Noisy Classifier: how good it is at each noise level, and where and how strongly to guide with it."""

import comfy.model_management
from comfy_api.latest import io, ui

from ..guidance_core import assess
from ..guidance_core.classifier.heads import Head
from ..guidance_core.errors import GuidanceError
from .host.classifier_files import host_classifier
from .host.classifiers import HostClassifier
from .host.labelled import LabelledLatents
from .host.model_facts import check_classifier, in_sampler_scale, path_of
from .host.types import LABELLED_LATENTS, NOISY_CLASSIFIER, SCALE_SCHEDULE
from .ui.messages import folded, say, speaking_as
from .ui.progress import with_bar
from .ui.trace_plot import as_image, on_node

TITLE = "Evaluate Noisy Classifier"
JUDGED_AT_ONCE = 32


class EvaluateNoisyClassifier(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitEvaluateNoisyClassifier",
            display_name=TITLE,
            category="model/training",
            description=(
                "Judges a noisy classifier on examples that it was not trained on: accuracy and calibration by noise "
                "level, confusion of labels. Suggests a scale and a schedule, and writes all of it into the classifier."
            ),
            search_aliases=[
                "evaluate classifier",
                "test classifier",
                "accuracy",
                "calibration",
                "confusion matrix",
                "suggest scale",
            ],
            has_intermediate_output=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to be guided."),
                NOISY_CLASSIFIER.Input("classifier", tooltip="The classifier to judge."),
                LABELLED_LATENTS.Input("examples", tooltip="Examples that it has not seen in training."),
                io.Int.Input(
                    "repeats",
                    default=4,
                    min=1,
                    max=100,
                    tooltip="How often each example is judged, with new noise; more is more accurate.",
                ),
            ],
            outputs=[
                NOISY_CLASSIFIER.Output("classifier", tooltip="The classifier with these results stored in it."),
                io.Float.Output("scale", tooltip="The scale to begin with."),
                SCALE_SCHEDULE.Output("schedule", tooltip="Where in the run it knows enough to guide."),
                io.Image.Output("judgement", tooltip="Accuracy, calibration and confusion, by noise level."),
                io.String.Output("report", tooltip="The suggestion in words."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, classifier: HostClassifier, examples: LabelledLatents, repeats: int) -> io.NodeOutput:
        with speaking_as(TITLE):
            check_classifier(model, classifier.classifier)
            targets = _targets(classifier.classifier.labels, classifier.classifier.head, examples)
            comfy.model_management.load_models_gpu([classifier.patcher])
            latents = in_sampler_scale(model, examples.latents).to(classifier.patcher.load_device)
            found = with_bar(
                assess.assessment.assess(classifier.classifier, latents, targets, repeats=repeats, batch=JUDGED_AT_ONCE)
            )
        verdict = found.suggestion.verdict(path_of(model))
        say(cls.hidden.unique_id, folded([verdict], [found.suggestion.reason]))
        page = as_image(assess.page.card_picture(found.classifier.card, found.evaluation.reliability))
        panels = assess.page.card_panels(found.classifier.card, found.evaluation.reliability)
        return io.NodeOutput(
            host_classifier(found.classifier),
            found.suggestion.scale,
            found.suggestion.schedule(),
            page,
            found.suggestion.reason,
            ui=ui.PreviewImage(as_image(on_node(panels)), cls=cls),
        )


def _targets(labels, head: Head, examples: LabelledLatents):
    """The examples' targets in the order of the classifier's labels."""
    if not head.takes(examples.head):
        raise GuidanceError(
            f"the classifier has {head} labels and the examples {examples.head} ones: use examples like it."
        )
    unknown = [label for label in examples.labels if label not in labels]
    if unknown:
        raise GuidanceError(
            f"the classifier does not know {', '.join(unknown)}: its labels are {', '.join(labels[:20])}."
        )
    order = [list(labels).index(label) for label in examples.labels]
    return head.label_format.renamed(examples.targets, order, len(labels))
