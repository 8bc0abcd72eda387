"""Classifier Guidance: steers a model by a noisy classifier, on any sampler and guider."""

from dataclasses import replace

from comfy_api.latest import io

from ..guidance_core.scale import ScaleSchedule
from ..guidance_core.terms.classifier_guidance import ClassifierTerm
from ..guidance_core.terms.target_text import parse_target
from .host.classifiers import FLOW_SIGMA, AnyClassifier
from .host.plan import Journal, TermPart, plan_of, with_plan
from .host.types import SCALE_SCHEDULE, guiding_classifier
from .ui.checks import written
from .ui.messages import speaking_as
from .ui.widgets import widgets

TITLE = "Classifier Guidance"
EXAMPLE = "a label of the classifier, such as seven"


def target_input() -> io.Input:
    """The text in which targets are written."""
    return io.String.Input(
        "target",
        default="",
        multiline=False,
        placeholder="seven, -three",
        tooltip="Labels of the classifier, by comma: seven, -three steers to seven and away from three; (seven:1.5) is "
        "stronger; seven | three alternates over the batch.",
    )


def classifier_part(
    model,
    classifier: AnyClassifier,
    target: str,
    schedule: ScaleSchedule | None,
    title: str,
    node_id: str | None,
    **options,
) -> TermPart:
    """A classifier's term for a MODEL. Raises GuidanceError for an unknown label or a classifier of other latents."""
    with speaking_as(title):
        classifier.check(model)
        parsed = parse_target(target, classifier.labels, classifier.head)
        term, note = classifier.term(model, parsed, schedule, **options)
    return TermPart(term, classifier.patchers, title, node_id, note)


class ClassifierGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitClassifierGuidance",
            display_name=TITLE,
            category="model/sampling/guidance",
            description=(
                "Steers the picture towards what a noisy classifier calls the target, at every step. Stacks with CFG "
                "and with further Classifier Guidance nodes; works with KSampler and every guider. On flow models it "
                f"begins at sigma {FLOW_SIGMA} unless a schedule says otherwise."
            ),
            search_aliases=["classifier", "guidance", "steer", "steering", "label", "target", "negative", "gradient"],
            inputs=[
                io.Model.Input("model", tooltip="The model to steer."),
                guiding_classifier(),
                target_input(),
                *widgets(ClassifierTerm),
                SCALE_SCHEDULE.Input(
                    "schedule", optional=True, tooltip="Strength over the run; where it is 0 the classifier is not run."
                ),
            ],
            outputs=[io.Model.Output(tooltip="The same model, steered: connect it to the sampler or guider.")],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # the plan names this very node: not to be shared with one of the same settings
        )

    @classmethod
    def validate_inputs(cls, target=None) -> bool | str:
        return written(TITLE, "target", target, EXAMPLE)

    @classmethod
    def execute(cls, model, classifier, target, scale, entropy_aware, max_shift, schedule=None) -> io.NodeOutput:
        part = classifier_part(
            model,
            classifier,
            target,
            schedule,
            TITLE,
            cls.hidden.unique_id,
            scale=scale,
            entropy_aware=entropy_aware,
            max_shift=max_shift,
        )
        plan = plan_of(model)
        return io.NodeOutput(with_plan(model, replace(plan, terms=(*plan.terms, part), journal=Journal())))
