"""Self-Guidance: leads away from a weaker self of the model, at any CFG, 1 too, and needs no negative."""

from dataclasses import replace

from comfy_api.latest import io

from ..guidance_core.params import params_of
from ..guidance_core.scale import ScaleSchedule
from ..guidance_core.terms.self_guidance import SelfGuidance
from .host.connections import check_second_model, patchers_beside
from .host.plan import Journal, TermPart, plan_of, with_plan
from .host.types import SCALE_SCHEDULE
from .ui.messages import speaking_as
from .ui.widgets import widgets

TITLE = "Self-Guidance"


class SelfGuidanceNode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitSelfGuidance",
            display_name=TITLE,
            category="model/sampling/guidance",
            description=(
                "Leads away from a weaker self of the model: firmer shapes and more detail without a negative, at CFG "
                "1 too, so that turbo and distilled models can be guided. It costs one pass more where its strength is "
                "not 0. Stacks with CFG Combine and classifiers; works with KSampler and every guider."
            ),
            search_aliases=[
                "self guidance",
                "perturbed attention guidance",
                "PAG",
                "SEG",
                "skip layer guidance",
                "SLG",
                "STG",
                "SWG",
                "TPG",
                "CFG 1",
                "turbo",
                "distilled",
                "guidance",
                "negative",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model to guide."),
                io.Model.Input("weak", tooltip=params_of(SelfGuidance)["weak"].doc),
                *widgets(SelfGuidance, "scale"),
                SCALE_SCHEDULE.Input(
                    "schedule",
                    optional=True,
                    tooltip="Strength over the run; where it is 0 the weaker self is not run.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The same model, guided: connect it to the sampler or guider.")],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # the plan names this very node: not to be shared with one of the same settings
        )

    @classmethod
    def execute(cls, model, weak, scale: float, schedule: ScaleSchedule | None = None) -> io.NodeOutput:
        with speaking_as(TITLE):
            check_second_model(model, weak)
            term = SelfGuidance(weak, scale, schedule or ScaleSchedule())
        part = TermPart(term, tuple(patchers_beside(model, weak)), TITLE, cls.hidden.unique_id)
        plan = plan_of(model)
        return io.NodeOutput(with_plan(model, replace(plan, terms=(*plan.terms, part), journal=Journal())))
