"""Graphs that try many settings at once."""

from devtools.workflows.canvas import GREEN, Canvas
from devtools.workflows.families import Family
from devtools.workflows.parts import BASICS, RESULTS, SAID, introduce, saved, settings

WORDS = 1.25  # by how much the labels of a sheet make it higher


def sweep_two_scales_on_one_sheet(canvas: Canvas, family: Family) -> None:
    """CFG's scale against a classifier's, in one node."""
    label = family.pair[1]
    cfg, classifier_scales = family.swept_cfg, (0, family.push / 3, family.push)
    introduce(
        canvas,
        family,
        "One node samples the same noise under every pair of settings and puts the pictures on one labelled sheet. "
        f"Here the prompt asks for {family.swept_thing} and the classifier wants *{label}*: CFG's scale grows to the "
        "right, the classifier's downwards.\n\n"
        "**Look at** the corners: the least guidance at the top left, the prompt alone at the top right, the "
        "classifier alone at the bottom left. Below each cell stand the passes it took, and how much of the target the "
        "classifier sees in it; another one as **judge** would be fairer.\n\n"
        "**Change first:** the values (*1:8:5* is five from 1 to 8), then what columns and rows are: schedules and "
        "CFG methods can be swept, too.",
        classifier=True,
    )
    with canvas.group(BASICS):
        loaded = family.load(canvas)
        classifier = family.classifier(canvas, loaded)
        positive, negative = family.wanted(canvas, loaded), family.null(canvas, loaded)
        latent = family.latent(canvas, family.swept)
    with canvas.group("Result", GREEN, beside=True):
        swept = canvas.node(
            "GuidanceKitGuidanceSweep",
            room=SAID,
            model=loaded.model,
            positive=positive,
            negative=negative,
            latent_image=latent,
            vae=loaded.vae,
            classifier=classifier,
            columns={"columns": "cfg scale", "values": ", ".join(f"{scale:g}" for scale in cfg)},
            rows={"rows": "classifier scale", "values": ", ".join(f"{scale:g}" for scale in classifier_scales)},
            target=label,
            seed=1,
            **settings(family),
        )
        ratio = WORDS * len(classifier_scales) / len(cfg)
        canvas.shapes = tuple((width, swept.node["size"][1] + round(ratio * width)) for width in RESULTS)
    canvas.ask(swept, "columns.values", "rows.values", "target", "seed")
    with canvas.group("Keep", GREEN):
        saved(canvas, swept, folded=True)  # the sheet is to be seen where it is made
