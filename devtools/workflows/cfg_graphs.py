"""Graphs of classifier-free guidance: its schedule, its method, its negative condition."""

from devtools.workflows.canvas import BROWN, Canvas
from devtools.workflows.families import Family
from devtools.workflows.parts import BASICS, combined, introduce, ksampler, prompted, report, schedule, sheet


def cfg_in_an_interval(canvas: Canvas, family: Family) -> None:
    """CFG with an interval schedule: nearly the same pictures with fewer passes."""
    start, end = family.interval
    introduce(
        canvas,
        family,
        f"Row 1: the prompt alone (CFG off). Row 2: CFG {family.scale:g} at every step. Row 3: the same only while "
        f"{start:g} >= sigma > {end:g}, in the middle of the run, where it matters; outside one pass a step is run "
        "instead of two.\n\n"
        "**Look at** the line that each **CFG Combine** writes on itself after a run: so many of so many passes were "
        "run. What is missing is time saved: a pass is nearly all that a step costs. For a plan before the run and "
        "all figures after it, see **Guidance Report**.\n\n"
        "**Change first:** start and end of the interval. CFG Combine sets the scale in place of the sampler's cfg.",
    )
    loaded, conditions, latent = prompted(canvas, family)
    with canvas.group("When"):
        interval = schedule(canvas, "", "interval", axis={"axis": "sigma", "start": start, "end": end})
    branches = [
        ("CFG off", 1.0, {}),
        (f"CFG {family.scale:g} at every step", family.scale, {}),
        (f"CFG {family.scale:g} in the interval", family.scale, {"schedule": interval}),
    ]
    canvas.ask(interval, "axis.start", "axis.end")
    rows = []
    with canvas.group("One CFG each", BROWN):
        for title, scale, more in branches:
            canvas.column()
            guided = combined(canvas, loaded, scale, **more)
            rows.append(ksampler(canvas, family, title, guided, conditions, latent))
        canvas.column(320)
        report(canvas, family, "What the interval saved", guided, rows[-1], room=380)
    sheet(canvas, family, loaded.vae, rows)


def cfg_schedules_side_by_side(canvas: Canvas, family: Family) -> None:
    """A scale that is too high, and schedules that make it bearable."""
    introduce(
        canvas,
        family,
        f"CFG {family.high:g} is too much at every step (row 1). A **Scale Schedule** says how much of it acts when: "
        "rising, falling, rising and falling, or in a window only. It multiplies what CFG adds; 0 is off, 1 the full "
        "scale.\n\n"
        "**Look at** the curve on each schedule, and at the edges of the pictures: late guidance frays them, early "
        "guidance sets the shape and leaves the details to the model.\n\n"
        "**Change first:** shape, then start and end. On **sigma** or **log-SNR** as axis a schedule means the same "
        "with any number of steps.",
    )
    loaded, conditions, latent = prompted(canvas, family)
    rows = []
    shapes = {
        "Constant": ("constant", {}),
        "Rising": ("linear", {}),
        "Falling": ("cosine", {"reverse": True}),
        "Up and down": ("triangle", {}),
        "In a window": ("interval", {"axis": {"axis": "step", "start": 0.2, "end": 0.6}}),
    }
    with canvas.group("One schedule each", BROWN):
        for title, (shape, more) in shapes.items():
            canvas.column()
            when = schedule(canvas, title, shape, **more)
            guided = combined(canvas, loaded, family.high, schedule=when)
            rows.append(ksampler(canvas, family, title, guided, conditions, latent, seed=2, folded=True))
    sheet(canvas, family, loaded.vae, rows)


CURVES = {
    "A curve that fades out": [[0.0, 1.0], [0.25, 0.75], [0.55, 0.12], [1.0, 0.0]],
    "A curve that comes late": [[0.0, 0.0], [0.45, 0.05], [0.75, 0.8], [1.0, 1.0]],
}


def cfg_schedule_drawn_by_hand(canvas: Canvas, family: Family) -> None:
    """The Curve Editor of ComfyUI as a schedule."""
    introduce(
        canvas,
        family,
        "ComfyUI's own **Curve Editor** draws the schedule: left is the beginning of the run, up is the full scale. "
        "Its curve goes into **curve** of **Scale Schedule** and takes the place of the shape there; start, end and "
        "axis still say which part of the run it covers.\n\n"
        "**Look at** row 1, the same CFG at every step, and at what the two curves make of it.\n\n"
        "**Change first:** drag the points of a curve; click for a new one. This needs the *Nodes 2.0* rendering "
        "(menu: Nodes 2.0); without it, use the shapes *keyframes* or *values*, which take numbers.",
    )
    loaded, conditions, latent = prompted(canvas, family)
    rows = []
    with canvas.group("Draw, schedule, sample", BROWN):
        guided = combined(canvas, loaded, family.high)
        rows.append(ksampler(canvas, family, "No schedule", guided, conditions, latent, seed=2, folded=True))
        for title, points in CURVES.items():
            canvas.column()
            curve = canvas.node("CurveEditor", room=330, curve={"points": points, "interpolation": "monotone_cubic"})
            when = schedule(canvas, title, "constant", curve=curve)
            guided = combined(canvas, loaded, family.high, schedule=when)
            rows.append(ksampler(canvas, family, title, guided, conditions, latent, seed=2, folded=True))
    sheet(canvas, family, loaded.vae, rows)


METHODS = ("standard", "apg", "rescale", "cfg_zero_star", "cfg_norm", "mambo_g", "cfg_pp")


def cfg_methods_side_by_side(canvas: Canvas, family: Family) -> None:
    """One scale that is too high, under several methods."""
    introduce(
        canvas,
        family,
        f"CFG {family.high:g}, which is too much, under seven of the methods of **CFG Combine**; the first row is "
        "plain CFG. Every method tames another harm of a high scale: burnt colours, contrast, overshooting first "
        "steps.\n\n"
        "**Look at** edges and specks. On digits, which have one channel and no colours, *mambo_g*, *cfg_zero_star* "
        "and *cfg_pp* help most, *rescale* and *cfg_norm* hardly; on photographs that differs.\n\n"
        "**Change first:** the method, then its parameters below it. Methods stack: put one CFG Combine after "
        "another. All of them with figures: *docs/cfg-methods.md*.",
    )
    loaded, conditions, latent = prompted(canvas, family)
    rows, nodes = [], []
    with canvas.group("One method each", BROWN, 235):
        for method in METHODS:
            canvas.column()
            guided = combined(canvas, loaded, family.high, method=method)
            nodes.append(guided.node)
            rows.append(ksampler(canvas, family, method, guided, conditions, latent, seed=3, folded=True))
        for node in nodes:  # room for the settings of another method, too
            node["size"] = [node["size"][0], max(each["size"][1] for each in nodes)]
    sheet(canvas, family, loaded.vae, rows)


def null_conditions_compared(canvas: Canvas, family: Family) -> None:
    """The same CFG against three negatives."""
    introduce(
        canvas,
        family,
        "CFG leads away from the negative condition, so it matters what that is. Row 1 has no CFG, the others CFG "
        f"{family.firm:g}. Row 2 leads away from {family.null_kind}, {family.null_is}; row 3 from zeros, "
        f"{family.zeros_are}; row 4 from {family.another}, as a negative prompt does.\n\n"
        "**Look at** row 3 beside row 2. A null condition that the model does not know still gives pictures, only "
        "worse ones, and no error.\n\n"
        "**Change first:** kind of the **Null-Condition Encoder**. *learned* takes a file from models/null_conditions.",
    )
    with canvas.group(BASICS):
        loaded = family.load(canvas)
        asked = family.asked(canvas, loaded)
        latent = family.latent(canvas)
    with canvas.group("Negative conditions"):
        negatives = {
            f"Against {family.null_kind}": family.null(canvas, loaded),
            "Against zeros": canvas.node("GuidanceKitNullConditionEncoder", room=80, like=asked, kind="zeros"),
            f"Against {family.another}": family.other(canvas, loaded),
        }
    with canvas.group("The same CFG against each", BROWN):
        guided = combined(canvas, loaded, family.firm)
        unguided = (asked, next(iter(negatives.values())))
        rows = [ksampler(canvas, family, "CFG off", loaded.model, unguided, latent)]
        canvas.column()
        for title, negative in negatives.items():
            rows.append(ksampler(canvas, family, title, guided, (asked, negative), latent))
    sheet(canvas, family, loaded.vae, rows)


WAYS = ("perturbed_attention", "smoothed_energy")
SELF_SCALE = 2.0


def self_guidance_at_cfg_1(canvas: Canvas, family: Family) -> None:
    """A weaker self to lead away from, where CFG is off: at every step, and in a window."""
    introduce(
        canvas,
        family,
        "Turbo and distilled models run at CFG 1, where no negative acts. **Self-Guidance** leads away from a weaker "
        "self of the model instead, which **Weaken Model** makes of the same weights. Row 1: the prompt alone. Row 2: "
        "perturbed attention at every step. Row 3: the same in the first half of the run, for half of the extra "
        "passes. Row 4: smoothed energy, a gentler lead.\n\n"
        "**Look at** shapes: strokes and outlines that are whole. Each **Self-Guidance** says on itself how many "
        "passes of the weaker self it ran.\n\n"
        "**Change first:** the scale; then the way in **Weaken Model** and its blocks: *skipped_layers* for Stable "
        "Diffusion 3.5 and Flux, *spatiotemporal_skip* for video.",
    )
    loaded, conditions, latent = prompted(canvas, family)
    with canvas.group("The weaker self, and when"):
        ways = {way: canvas.node("GuidanceKitWeakenModel", model=loaded.model, way=way) for way in WAYS}
        window = schedule(canvas, "", "interval", axis={"axis": "step", "start": 0.0, "end": 0.5})
    rows = []
    with canvas.group("CFG 1 at each", BROWN):
        rows.append(ksampler(canvas, family, "Alone", loaded.model, conditions, latent, seed=4, folded=True))
        for title, way, more in (
            ("Perturbed attention", WAYS[0], {}),
            ("In the first half", WAYS[0], {"schedule": window}),
            ("Smoothed energy", WAYS[1], {}),
        ):
            canvas.column()
            guided = canvas.node(
                "GuidanceKitSelfGuidance", room=60, model=loaded.model, weak=ways[way], scale=SELF_SCALE, **more
            )
            rows.append(ksampler(canvas, family, title, guided, conditions, latent, seed=4, folded=True))
        canvas.column(280)
        report(canvas, family, "What it cost", guided, rows[-1], room=356)
    sheet(canvas, family, loaded.vae, rows)
