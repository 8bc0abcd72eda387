"""What most of the graphs share: their note, samplers with a family's settings, and the contact sheet."""

from devtools.workflows.canvas import BROWN, GREEN, GREY, Canvas, Output, titled
from devtools.workflows.families import Family, Loaded

PREVIEW = 240  # pixels for a picture on a node, which the front end gives it
SAID = 80  # pixels for what a node says after a run
TRACE = 420  # pixels for what a sampler that guides says, and for its trace as wide as the node
CURVE = 150  # pixels for the curve that a schedule draws while it is edited
TAKEN = 56  # pixels for its line about a curve that is connected
RESULTS, AROUND = range(450, 901, 50), 100  # pixels: widths of the result, and what stands above and below it
SPACE = 4  # pixels between the pictures of the contact sheet
BASICS = "Model, conditions, size"  # the group that every graph begins with
SHEET = "BatchLatentsNode"  # the node that joins the rows of the contact sheet


def introduce(canvas: Canvas, family: Family, text: str, classifier: bool = False) -> None:
    """The graph's note: what it shows, what to look at, what to change first, and what the family asks for."""
    with canvas.group("Read first", GREY):
        canvas.note(f"## {titled(canvas.name)}\n\n{text}\n\n{family.footnote(canvas, classifier)}")


def prompted(canvas: Canvas, family: Family) -> tuple[Loaded, tuple[Output, Output], Output]:
    """What CFG starts from: the model, a prompt against none, and latents."""
    with canvas.group(BASICS):
        loaded = family.load(canvas)
        conditions = family.asked(canvas, loaded), family.null(canvas, loaded)
        return loaded, conditions, family.latent(canvas)


def steerable(canvas: Canvas, family: Family) -> tuple[Loaded, Output, tuple[Output, Output], Output]:
    """What classifier guidance starts from: the model, a classifier, conditions that ask for nothing, and latents."""
    with canvas.group(BASICS):
        loaded = family.load(canvas)
        classifier = family.classifier(canvas, loaded)
        conditions = family.free(canvas, loaded)
        return loaded, classifier, conditions, family.latent(canvas)


def combined(canvas: Canvas, loaded: Loaded, scale: float, **more: object) -> Output:
    """The model under a CFG Combine node."""
    return canvas.node("GuidanceKitCFGCombine", room=60, model=loaded.model, scale=scale, **more)


def steered(
    canvas: Canvas, model: Output, classifier: Output, target: str | Output, scale: float, title: str, **more: object
) -> Output:
    """The model under a Classifier Guidance node, with room for all that it says of a judge of clean pictures."""
    values = {"classifier": classifier, "target": target, "scale": scale, **more}
    room = 2 * SAID if classifier.type == "CLEAN_CLASSIFIER" else 60
    return canvas.node("GuidanceKitClassifierGuidance", title, room=room, model=model, **values)


def ksampler(
    canvas: Canvas,
    family: Family,
    title: str,
    model: Output,
    conditions: tuple[Output, Output],
    latent: Output,
    cfg: float = 1.0,
    seed: int = 1,
    folded: bool = False,
    **more: object,
) -> Output:
    """A KSampler with the family's settings, except where `more` says otherwise."""
    positive, negative = conditions
    return canvas.node(
        "KSampler",
        title,
        model=model,
        positive=positive,
        negative=negative,
        latent_image=latent,
        cfg=cfg,
        seed=seed,
        folded=folded,
        **settings(family) | more,
    )


def guided_sampler(
    canvas: Canvas,
    family: Family,
    title: str,
    loaded: Loaded,
    classifier: Output,
    conditions: tuple[Output, Output],
    latent: Output,
    target: str | Output,
    scale: float,
    seed: int = 1,
    **more: object,
) -> Output:
    """A Classifier Guidance Sampler with the family's settings, which shows its trace."""
    positive, negative = conditions
    values = {"cfg": family.cfg, "seed": seed, **settings(family), **more}
    return canvas.node(
        "GuidanceKitClassifierGuidanceSampler",
        title,
        room=TRACE,
        model=loaded.model,
        classifier=classifier,
        positive=positive,
        negative=negative,
        latent_image=latent,
        target=target,
        classifier_scale=scale,
        **values,
    )


def guided_rows(
    canvas: Canvas,
    family: Family,
    heading: str,
    branches: dict[str, tuple[str | Output, float]],
    loaded: Loaded,
    classifier: Output,
    conditions: tuple[Output, Output],
    latent: Output,
    seed: int = 1,
) -> list[Output]:
    """A group with a Classifier Guidance Sampler for each title, with its target and its scale."""
    rows = []
    with canvas.group(heading, BROWN):
        for title, (target, scale) in branches.items():
            canvas.column()
            row = guided_sampler(canvas, family, title, loaded, classifier, conditions, latent, target, scale, seed)
            rows.append(row)
    return rows


def schedule(canvas: Canvas, title: str, shape: str, **more: object) -> Output:
    """A Scale Schedule, with room for its curve, and for what it says of one that is connected."""
    room = CURVE + (TAKEN if "curve" in more else 0)
    return canvas.node("GuidanceKitScaleSchedule", title, room=room, shape=shape, **more)


def report(canvas: Canvas, family: Family, title: str, model: Output, latent: Output, room: int) -> None:
    """A Guidance Report of a run: the plan of its MODEL, and what ran once the latent is there."""
    canvas.node(
        "GuidanceKitGuidanceReport",
        title,
        room=room,
        model=model,
        latent=latent,
        steps=family.steps,
        scheduler=family.scheduler,
    )


def settings(family: Family) -> dict:
    """Steps, sampler and scheduler."""
    return {"steps": family.steps, "sampler_name": family.sampler, "scheduler": family.scheduler}


def sheet(canvas: Canvas, family: Family, vae: Output, rows: list[Output]) -> None:
    """Decode the latents of every row into one saved picture."""
    with canvas.group("One row each", GREEN, 220):
        latents = {f"latents.latent{i}": row for i, row in enumerate(rows)}
        batch = canvas.node(SHEET, folded=True, **latents)
        decoded = canvas.node("VAEDecode", folded=True, samples=batch, vae=vae)
        listed = canvas.node("RebatchImages", folded=True, images=decoded, batch_size=1)
        cell = {"cell_width": family.cell, "cell_height": family.cell}
        grid = canvas.node("ImageGrid", folded=True, images=listed, columns=family.count, **cell, padding=SPACE)
    result(canvas, grid, len(rows) / family.count)


def result(canvas: Canvas, picture: Output, ratio: float) -> None:
    """Save a picture, and show it beside the note. ratio: its height by its width."""
    with canvas.group("Result", GREEN, beside=True):
        saved(canvas, picture)
        canvas.shapes = tuple((width, round(ratio * width) + AROUND) for width in RESULTS)


def saved(canvas: Canvas, picture: Output, folded: bool = False) -> None:
    """Save a picture under the graph's name."""
    canvas.node("SaveImage", folded=folded, images=picture, filename_prefix=f"guidance-kit/{canvas.name}")
