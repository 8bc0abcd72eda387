"""Guidance Report: what the guidance on a MODEL will do, and what it did."""

import comfy.samplers
import torch
from comfy_api.latest import io, ui

from ..guidance_core.drawing.plot import Panel, picture
from .host.plan import plan_of
from .ui.messages import folded, say, speaking_as
from .ui.plain_text import plain
from .ui.report import call_lines, plan_lines, planned, report_panels, run_lines
from .ui.trace_plot import as_image, on_node

TITLE = "Guidance Report"


class GuidanceReport(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitGuidanceReport",
            display_name=TITLE,
            category="model/sampling/guidance",
            description=(
                "The guidance on a model: effective scales, methods in their order, passes at every step, and hooks of "
                "other nodes that a guider does not run. Connect the sampler's latent to see what really ran; without "
                "it the report is the plan."
            ),
            search_aliases=["report", "guidance", "cfg", "debug", "inspect", "passes", "trace", "plan", "schedule"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model that goes into the sampler."),
                io.Int.Input(
                    "steps", default=25, min=1, max=10000, tooltip="Steps of the plan: set what the sampler has."
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.KSampler.SCHEDULERS,
                    tooltip="Scheduler of the plan: set what the sampler has.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The sampler's latent: the report then shows the last run of this MODEL, not the plan.",
                ),
                io.Sigmas.Input(
                    "sigmas", optional=True, tooltip="Noise levels of the plan, in place of steps and scheduler."
                ),
            ],
            outputs=[
                io.String.Output("report", tooltip="The plan, or what the last run did, in words."),
                io.Image.Output("picture", tooltip="Scales and passes over the steps."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, steps: int, scheduler: str, latent=None, sigmas=None) -> io.NodeOutput:
        with speaking_as(TITLE):
            lines, calls, panels = _report(model, steps, scheduler, latent, sigmas)
        say(cls.hidden.unique_id, folded(lines, calls))
        text = "\n".join([*lines, *calls])
        shown = (
            ui.PreviewImage(as_image(on_node(panels)), cls=cls).as_dict()
            | ui.PreviewText(plain("\n".join(lines))).as_dict()
        )
        return io.NodeOutput(text, as_image(picture(panels)), ui=shown)


def _report(model, steps: int, scheduler: str, latent, sigmas) -> tuple[list[str], list[str], list[Panel]]:
    """The report in lines, those of the single calls, and the plots of its picture."""
    plan = plan_of(model)
    ran = plan.journal.last if latent is not None else None
    if ran is not None:
        sigmas = torch.tensor(ran.sigmas)
    elif sigmas is None or len(sigmas) < 2:
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
    as_planned = planned(model, plan, sigmas)
    lines, calls = plan_lines(model, plan, as_planned), []
    if ran is not None:
        lines += run_lines(ran)
        calls = call_lines(ran)
    elif latent is not None:
        lines.append("No run on this MODEL is known: connect the one that goes into the sampler.")
    return lines, calls, report_panels(as_planned, ran, [part.name for part in plan.terms])
