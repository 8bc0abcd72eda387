"""Vary Condition: noise in the positive condition while the picture takes shape, for pictures that differ more."""

from dataclasses import replace

from comfy_api.latest import io

from ..guidance_core.params import make
from ..guidance_core.scale import ScaleSchedule
from ..guidance_core.variety import varieties
from .host.plan import Journal, VarietyPart, plan_of, with_plan
from .host.types import SCALE_SCHEDULE
from .ui.messages import speaking_as
from .ui.widgets import chosen, widgets

TITLE = "Vary Condition"


class VaryCondition(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        known = varieties()
        return io.Schema(
            node_id="GuidanceKitVaryCondition",
            display_name=TITLE,
            category="model/sampling/guidance",
            description=(
                "Noise in the positive prompt at the first steps, another for each picture of a batch and for each "
                "seed: for models whose pictures look alike whatever the seed, turbo and distilled ones above all. No "
                "further pass; works with KSampler and every guider."
            ),
            search_aliases=[
                "variety",
                "variation",
                "diversity",
                "CADS",
                "seed variance",
                "condition",
                "noise",
                "turbo",
                "distilled",
                *(variety.title for variety in known.values()),
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model whose positive condition is varied while it samples."),
                io.DynamicCombo.Input(
                    "variety",
                    options=[io.DynamicCombo.Option(name, widgets(kind)) for name, kind in known.items()],
                    tooltip="\n".join(f"{kind.name}: {kind.doc}" for kind in known.values()),
                ),
                SCALE_SCHEDULE.Input(
                    "schedule",
                    optional=True,
                    tooltip="How much of the noise is in it over the run, 0 to 1; without it, the first steps only.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The same model: connect it to the sampler or guider.")],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # the plan names this very node: not to be shared with one of the same settings
        )

    @classmethod
    def execute(cls, model, variety: dict | None = None, schedule: ScaleSchedule | None = None) -> io.NodeOutput:
        with speaking_as(TITLE):
            values = dict(chosen("variety", variety))
            name = values.pop("variety")
            made = make(varieties()[name], name, values)
            made = replace(made, schedule=schedule) if schedule else made
        part, plan = VarietyPart(made, TITLE, cls.hidden.unique_id), plan_of(model)
        return io.NodeOutput(with_plan(model, replace(plan, varieties=(*plan.varieties, part), journal=Journal())))
