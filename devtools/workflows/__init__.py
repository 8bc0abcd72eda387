"""The example workflows: graphs, each written once, for several families of models."""

from pathlib import Path

from devtools.host import ROOT
from devtools.workflows.canvas import Canvas, titled
from devtools.workflows.cfg_graphs import (
    cfg_in_an_interval,
    cfg_methods_side_by_side,
    cfg_schedule_drawn_by_hand,
    cfg_schedules_side_by_side,
    null_conditions_compared,
    self_guidance_at_cfg_1,
)
from devtools.workflows.classifier_graphs import (
    a_classifier_beside_cfg,
    classifier_guidance_at_four_scales,
    paint_over_one_half,
    steer_away_with_a_negative_target,
    two_targets_at_once,
)
from devtools.workflows.clean_graphs import a_clean_judge_beside_a_noisy_classifier, steer_by_a_reference_picture
from devtools.workflows.emoji_graphs import (
    emoji_at_a_burning_scale,
    emoji_learned_from_twenty_pictures,
    emoji_with_what_no_class_says,
)
from devtools.workflows.families import Bundled, Digits, Family, Prompted
from devtools.workflows.family_settings import COLOURS, FAMILIES
from devtools.workflows.sweep_graphs import sweep_two_scales_on_one_sheet
from devtools.workflows.training_graphs import train_on_two_folders_then_guide
from devtools.workflows.variety_graphs import variety_from_one_noise

__all__ = [
    "DIGITS",
    "EXAMPLES",
    "FAMILIES",
    "FOLDER",
    "GRAPHS",
    "Bundled",
    "Digits",
    "Family",
    "draft",
    "graphs_of",
    "place",
]

(DIGITS,) = (family for family in FAMILIES if isinstance(family, Digits))
FOLDER = ROOT / "example_workflows"
GRAPHS = {
    graph.__name__: graph
    for graph in (
        classifier_guidance_at_four_scales,
        steer_away_with_a_negative_target,
        two_targets_at_once,
        a_classifier_beside_cfg,
        paint_over_one_half,
        train_on_two_folders_then_guide,
        cfg_in_an_interval,
        cfg_schedules_side_by_side,
        cfg_schedule_drawn_by_hand,
        cfg_methods_side_by_side,
        null_conditions_compared,
        sweep_two_scales_on_one_sheet,
        a_clean_judge_beside_a_noisy_classifier,
        steer_by_a_reference_picture,
        self_guidance_at_cfg_1,
        variety_from_one_noise,
    )
}
"""Those of every family, but for ONLY_FOR."""
OF_EMOJI = {
    graph.__name__: graph
    for graph in (emoji_at_a_burning_scale, emoji_with_what_no_class_says, emoji_learned_from_twenty_pictures)
}
"""Those that need colours, or what only the emoji demo has."""
ONLY_FOR = {"a_clean_judge_beside_a_noisy_classifier": Digits, "steer_by_a_reference_picture": Prompted}
EXAMPLES = [
    *((name, family) for family in FAMILIES for name in GRAPHS if isinstance(family, ONLY_FOR.get(name, Family))),
    *((name, COLOURS) for name in OF_EMOJI),
]
"""Every example workflow that there is."""


def draft(name: str, family: Family, object_info: dict[str, dict]) -> dict:
    """The workflow of a graph for a family, as the front end would save it."""
    canvas = Canvas(name, object_info)
    (GRAPHS | OF_EMOJI)[name](canvas, family)
    return canvas.workflow()


def graphs_of(family: Family) -> list[str]:
    """The names of the graphs that are written for a family."""
    return [name for name, each in EXAMPLES if each is family]


def place(name: str, family: Family) -> Path:
    """The file of a workflow, by whose name the template browser lists it: bundled models first, and numbered."""
    bundled = [each for each, of in EXAMPLES if isinstance(of, Bundled)]
    listed = f"{bundled.index(name) + 1:02d}" if isinstance(family, Bundled) else f"{family.title} -"
    return FOLDER / f"{listed} {titled(name)}.json"
