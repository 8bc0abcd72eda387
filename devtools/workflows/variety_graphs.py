"""Graphs about variety: what differs between pictures of one noise."""

from devtools.workflows.canvas import BROWN, Canvas
from devtools.workflows.families import Digits, Family
from devtools.workflows.parts import introduce, ksampler, prompted, schedule, sheet


def variety_from_one_noise(canvas: Canvas, family: Family) -> None:
    """Plain seeds beside noise in the condition, at CFG 1."""
    introduce(
        canvas,
        family,
        "Turbo and distilled models often give nearly one picture, whatever the seed. **Vary Condition** puts noise "
        "into the prompt while the picture takes shape. Rows 1 and 2: the prompt alone, from two seeds. Rows 3 and 4: "
        "the noise of row 1, its prompt annealed (*cads*) in two variations. Row 5: the same noise, a part of the "
        "prompt's numbers changed (*seed_variance*).\n\n"
        "**Look at** what rows 3 to 5 have of row 1, and what not. Each **Vary Condition** says on itself what it "
        "changed, and at how many calls.\n\n"
        "**Change first:** the scale; then where the schedule ends: later is more varied, and less true to the prompt.",
    )
    loaded, conditions, latent = prompted(canvas, family)
    late = isinstance(family, Digits)  # they decide late what they are
    with canvas.group("When"):
        shape = {"shape": "interval", "shape.high": 0.7} if late else {"shape": "linear", "reverse": True}
        when = schedule(canvas, "", axis={"axis": "step", "start": 0.0, "end": 0.8 if late else 0.4}, **shape)
    cads, changed = (1.0, 8.0) if late else (0.25, 1.0)
    rows = []
    with canvas.group("CFG 1 at each", BROWN):
        for title, seed in (("One seed", 4), ("Another seed", 5)):
            rows.append(ksampler(canvas, family, title, loaded.model, conditions, latent, seed=seed))
        for title, values in (
            ("CADS", {"variety": "cads", "variety.scale": cads}),
            ("CADS, another variation", {"variety": "cads", "variety.scale": cads, "variety.variation": 1}),
            ("Seed variance", {"variety": "seed_variance", "variety.scale": changed}),
        ):
            canvas.column()
            varied = canvas.node("GuidanceKitVaryCondition", room=60, model=loaded.model, schedule=when, **values)
            rows.append(ksampler(canvas, family, title, varied, conditions, latent, seed=4))
    sheet(canvas, family, loaded.vae, rows)
