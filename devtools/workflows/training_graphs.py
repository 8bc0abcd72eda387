"""Graphs that train a classifier."""

from devtools.workflows.canvas import BROWN, Canvas
from devtools.workflows.families import Family
from devtools.workflows.parts import BASICS, PREVIEW, SAID, guided_rows, introduce, ksampler, sheet

JUDGEMENT, JUDGEMENTS = 0.65, range(270, 601, 30)  # its picture's height by its width; pixels: widths of its node
ABOVE = 40  # pixels: what stands above the picture


def train_on_two_folders_then_guide(canvas: Canvas, family: Family) -> None:
    """Two folders of pictures to a classifier, and the classifier to pictures."""
    first, second = family.trained
    introduce(
        canvas,
        family,
        f"Two folders of pictures, and {family.own} samples of the model itself under the label **other**, become a "
        "noisy classifier. It is judged on what was held out, saved, and steers the model at once.\n\n"
        "**Look at** the judgement: how well the labels are told apart at each noise level. Where that is chance, "
        "guidance does nothing. **Train** writes below itself which scale to begin with. The percentages on the "
        "samplers are careful ones: *share* says that each label is one in a hundred of what the model makes, so 30 % "
        "at the end is thirty times that.\n\n"
        f"**Change first:** the folders. Put yours into ComfyUI's *input* folder, press R, choose them here"
        f"{family.stand_ins}. Training can be cancelled: it keeps the best so far, and goes on when run again.",
    )
    with canvas.group(BASICS):
        loaded = family.load(canvas)
        conditions = family.free(canvas, loaded)
        latent = family.latent(canvas)
    with canvas.group("Pictures, samples and their labels", width=250):
        examples = None
        for label, folder in zip(family.trained, family.folders, strict=True):
            examples = canvas.node(
                "GuidanceKitLabelledFolder",
                f"Pictures of {label}",
                room=70,
                vae=loaded.vae,
                folder=folder,
                label=label,
                width=family.size,
                height=family.size,
                **({} if examples is None else {"examples": examples}),
            )
        canvas.column()
        many = canvas.fold(family.latent(canvas, family.own))
        own = ksampler(
            canvas,
            family,
            "The model's own samples",
            loaded.model,
            conditions,
            many,
            cfg=family.cfg,
            seed=5,
            folded=True,
        )
        examples = canvas.node(
            "GuidanceKitLabelledLatents", room=80, **{"latents.latent0": own}, examples=examples, labels="other"
        )
    with canvas.group("Train, save", BROWN):
        trained = canvas.node(
            "GuidanceKitTrainNoisyClassifier",
            room=PREVIEW + SAID,
            model=loaded.model,
            examples=examples,
            name=family.classifier_name,
            **family.training,
        )
        canvas.node(
            "GuidanceKitSaveNoisyClassifier",
            folded=True,
            classifier=trained,
            name=family.classifier_name,
            replace=True,
        )
    branches = {
        "No guidance": (first, 0.0),
        f"To {first}": (first, family.trained_scale),
        f"To {second}": (second, family.trained_scale),
    }
    rows = guided_rows(canvas, family, "Guide", branches, loaded, trained, conditions, latent, seed=7)
    with canvas.group("Judge", BROWN):
        canvas.node("PreviewImage", "Judgement", images=trained.slot(2))
        canvas.shapes = tuple((width, round(JUDGEMENT * width) + ABOVE) for width in JUDGEMENTS)
    sheet(canvas, family, loaded.vae, rows)
