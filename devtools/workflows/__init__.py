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
)
from devtools.workflows.classifier_graphs import (
    a_classifier_beside_cfg,
    classifier_guidance_at_four_scales,
    paint_over_one_half,
    steer_away_with_a_negative_target,
    two_targets_at_once,
)
from devtools.workflows.families import Digits, Family
from devtools.workflows.family_settings import FAMILIES
from devtools.workflows.sweep_graphs import sweep_two_scales_on_one_sheet
from devtools.workflows.training_graphs import train_on_two_folders_then_guide

__all__ = ["FAMILIES", "FOLDER", "GRAPHS", "Digits", "Family", "draft", "place"]

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
    )
}


def draft(name: str, family: Family, object_info: dict[str, dict]) -> dict:
    """The workflow of a graph for a family, as the front end would save it."""
    canvas = Canvas(name, object_info)
    GRAPHS[name](canvas, family)
    return canvas.workflow()


def place(name: str, family: Family) -> Path:
    """The file of a workflow: the template browser lists the digits, the others lie in folders below."""
    return (FOLDER if isinstance(family, Digits) else FOLDER / family.name) / f"{name}.json"
