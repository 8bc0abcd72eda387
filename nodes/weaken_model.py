"""Weaken Model: the same model, made worse in one respect, for guidance that leads away from it."""

from comfy_api.latest import io

from ..guidance_core.params import check_known, make
from .host.weaken import weakened, weakenings
from .ui.checks import allowed, choice_of
from .ui.messages import speaking_as
from .ui.widgets import chosen, widgets

TITLE = "Weaken Model"


class WeakenModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        ways = weakenings()
        return io.Schema(
            node_id="GuidanceKitWeakenModel",
            display_name=TITLE,
            category="model/sampling/guidance",
            description=(
                "A weaker self of the model, to lead away from: connect it as weak to Self-Guidance, or to the method "
                "autoguidance of CFG Combine. It shares the model's weights and needs no memory of its own."
            ),
            search_aliases=[
                "weaken",
                "perturbed attention",
                "PAG",
                "smoothed energy",
                "SEG",
                "skip layer",
                "SLG",
                "STG",
                "S2 guidance",
                "SWG",
                "TPG",
                "guidance",
                "autoguidance",
                *(way.title for way in ways.values()),
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model to weaken."),
                io.DynamicCombo.Input(
                    "way",
                    options=[io.DynamicCombo.Option(name, widgets(way)) for name, way in ways.items()],
                    tooltip="\n".join(f"{way.name}: {way.doc}" for way in ways.values()),
                ),
            ],
            outputs=[io.Model.Output("weak", tooltip="The weakened model: connect it as weak, not to a sampler.")],
        )

    @classmethod
    def validate_inputs(cls, way=None) -> bool | str:
        name = choice_of(way, "way")
        return name is None or allowed(TITLE, lambda: check_known("way to weaken", name, weakenings()))

    @classmethod
    def execute(cls, model, way: dict | None = None) -> io.NodeOutput:
        with speaking_as(TITLE):
            values = dict(chosen("way", way))
            name = values.pop("way")
            return io.NodeOutput(weakened(model, make(weakenings()[name], name, values)))
