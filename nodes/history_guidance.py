"""History Guidance: sharpens a run by its own earlier steps, at any CFG, 1 too, and for no further pass."""

from dataclasses import replace

from comfy_api.latest import io

from ..guidance_core.params import make
from ..guidance_core.scale import ScaleSchedule
from ..guidance_core.terms import terms
from ..guidance_core.terms.history import HistoryTerm
from .host.plan import Journal, TermPart, plan_of, with_plan
from .host.types import SCALE_SCHEDULE
from .ui.messages import speaking_as
from .ui.widgets import chosen, widgets

TITLE = "History Guidance"


def history_terms() -> dict[str, type[HistoryTerm]]:
    """The terms of a run's own history, by name."""
    return {name: term for name, term in terms().items() if issubclass(term, HistoryTerm)}


class HistoryGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        known = history_terms()
        return io.Schema(
            node_id="GuidanceKitHistoryGuidance",
            display_name=TITLE,
            category="model/sampling/guidance",
            description=(
                "Sharpens a run by its own earlier steps: more detail for no further pass, at CFG 1 too, so for turbo "
                "and distilled models as well. Stacks with CFG Combine, classifiers and further nodes of its kind; "
                "works with KSampler and every guider."
            ),
            search_aliases=[
                "history",
                "momentum guidance",
                "MG",
                "HiGS",
                "TAG",
                "detail",
                "sharpen",
                "CFG 1",
                "turbo",
                "distilled",
                "guidance",
                *(term.title for term in known.values()),
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model to guide."),
                io.DynamicCombo.Input(
                    "term",
                    options=[io.DynamicCombo.Option(name, widgets(term)) for name, term in known.items()],
                    tooltip="\n".join(f"{term.name}: {term.doc}" for term in known.values()),
                ),
                SCALE_SCHEDULE.Input(
                    "schedule",
                    optional=True,
                    tooltip="Strength over the run; earlier steps are kept where it is 0, too.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The same model, guided: connect it to the sampler or guider.")],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # the plan names this very node: not to be shared with one of the same settings
        )

    @classmethod
    def execute(cls, model, term: dict | None = None, schedule: ScaleSchedule | None = None) -> io.NodeOutput:
        with speaking_as(TITLE):
            values = dict(chosen("term", term))
            name = values.pop("term")
            made = replace(make(history_terms()[name], name, values), schedule=schedule or ScaleSchedule())
        part, plan = TermPart(made, (), TITLE, cls.hidden.unique_id), plan_of(model)
        return io.NodeOutput(with_plan(model, replace(plan, terms=(*plan.terms, part), journal=Journal())))
