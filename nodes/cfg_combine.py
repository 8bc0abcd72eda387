"""CFG Combine: how the conditional and the unconditional prediction become one, on any sampler and guider."""

from dataclasses import replace

from comfy_api.latest import io

from ..guidance_core.cfg import Pipeline, cfg_method, cfg_methods
from ..guidance_core.params import make
from ..guidance_core.scale import ScaleSchedule
from .host.connections import connected
from .host.plan import CfgPart, Journal, plan_of, with_plan
from .host.types import SCALE_SCHEDULE
from .ui.checks import allowed, choice_of
from .ui.messages import say, speaking_as
from .ui.widgets import chosen, widgets

TITLE = "CFG Combine"


class CFGCombine(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitCFGCombine",
            display_name=TITLE,
            category="model/sampling/guidance",
            description=(
                "Classifier-free guidance for this model: its scale, its schedule and its method, in place of the "
                "sampler's cfg. Works with KSampler and every guider; steps where the schedule is 0 run one pass, not "
                "two. Chain several to stack methods; the last one sets scale and schedule."
            ),
            search_aliases=[
                "cfg",
                "guidance",
                "classifier-free guidance",
                "cfg scale",
                "cfg schedule",
                "cfg interval",
                "negative prompt",
                "unconditional",
                "skip uncond",
                "rescale cfg",
                "mimic",
                "mimic scale",
                "dynamic thresholding",
                "cfg guider",
                *(method.title for method in cfg_methods().values()),
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model to guide."),
                *widgets(Pipeline),
                io.DynamicCombo.Input(
                    "method",
                    options=[io.DynamicCombo.Option(name, widgets(method)) for name, method in cfg_methods().items()],
                    tooltip="\n".join(f"{method.name}: {method.doc}" for method in cfg_methods().values()),
                ),
                SCALE_SCHEDULE.Input(
                    "schedule", optional=True, tooltip="Strength over the run; without it the scale is constant."
                ),
            ],
            outputs=[io.Model.Output(tooltip="The same model, guided: connect it to the sampler or guider.")],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # the plan names this very node: not to be shared with one of the same settings
        )

    @classmethod
    def validate_inputs(cls, method=None) -> bool | str:
        name = choice_of(method, "method")
        return name is None or allowed(TITLE, lambda: cfg_method(name))

    @classmethod
    def execute(
        cls, model, scale: float, method: dict | None = None, schedule: ScaleSchedule | None = None
    ) -> io.NodeOutput:
        plan, node_id = plan_of(model), cls.hidden.unique_id
        with speaking_as(TITLE):
            method = chosen("method", method)
            kind = cfg_method(method["method"])
            given, patchers = connected(model, kind, method)
            made = make(kind, kind.name, given)
            before = plan.cfg.pipeline if plan.cfg is not None else Pipeline(scale)
            pipeline = before.extended(scale, schedule or ScaleSchedule(), made)
        say(node_id, "")
        if plan.cfg is not None:
            say(plan.cfg.node_id, "Scale and schedule are set by the CFG Combine further down the chain.")
        patchers = (plan.cfg.patchers if plan.cfg is not None else ()) + patchers
        part = CfgPart(pipeline, TITLE, node_id, patchers)
        return io.NodeOutput(with_plan(model, replace(plan, cfg=part, journal=Journal())))
