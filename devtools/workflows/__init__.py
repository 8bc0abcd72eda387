"""The example workflows: graphs, each written once, for several families of models."""

from pathlib import Path

from devtools.host import ROOT
from devtools.workflows.canvas import Canvas
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
from devtools.workflows.emoji_graphs import emoji_at_a_burning_scale, emoji_with_what_no_class_says
from devtools.workflows.families import Bundled, Digits, Family
from devtools.workflows.family_settings import COLOURS, FAMILIES
from devtools.workflows.sweep_graphs import sweep_two_scales_on_one_sheet
from devtools.workflows.training_graphs import train_on_two_folders_then_guide
from devtools.workflows.variety_graphs import variety_from_one_noise

__all__ = ["EXAMPLES", "FAMILIES", "FOLDER", "GRAPHS", "Bundled", "Digits", "Family", "draft", "place"]

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
        self_guidance_at_cfg_1,
        variety_from_one_noise,
    )
}
"""Those of every family."""
OF_EMOJI = {graph.__name__: graph for graph in (emoji_at_a_burning_scale, emoji_with_what_no_class_says)}
"""Those that need colours, or what only the emoji demo has."""
EXAMPLES = [(name, family) for family in FAMILIES for name in GRAPHS] + [(name, COLOURS) for name in OF_EMOJI]
"""Every example workflow that there is."""


def draft(name: str, family: Family, object_info: dict[str, dict]) -> dict:
    """The workflow of a graph for a family, as the front end would save it."""
    canvas = Canvas(name, object_info)
    (GRAPHS | OF_EMOJI)[name](canvas, family)
    return canvas.workflow()


def place(name: str, family: Family) -> Path:
    """The file of a workflow: the template browser lists those of bundled models, the others lie in folders below."""
    return (FOLDER if isinstance(family, Bundled) else FOLDER / family.name) / f"{name}.json"
