"""Graphs that train a classifier."""

from devtools.workflows.canvas import BROWN, NARROW, Canvas
from devtools.workflows.families import Family
from devtools.workflows.parts import BASICS, PREVIEW, SAID, guided_sampler, introduce, ksampler, sheet

JUDGEMENT = 270  # pixels: width of its picture, and height with what stands around it


def train_on_two_folders_then_guide(canvas: Canvas, family: Family) -> None:
    """Two folders of pictures to a classifier, and the classifier to pictures."""
    introduce(
        canvas,
        family,
        f"Two folders of pictures, and {family.own} samples of the model itself under the label **other**, become a "
        "noisy classifier. It is judged on what was held out, saved, and steers the model at once.\n\n"
        "**Look at** the judgement: how well the labels are told apart at each noise level. Where that is chance, "
        "guidance does nothing. **Train** writes below itself which scale to begin with. The percentages on the "
        "samplers are careful ones: *share* says that each label is one in a hundred of what the model makes, so see "
        "how they rise from the start.\n\n"
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
    with canvas.group("Judge, guide", BROWN, JUDGEMENT):
        plain = ksampler(canvas, family, "No guidance", loaded.model, conditions, latent, cfg=family.cfg, seed=7)
        canvas.node("PreviewImage", "Judgement", room=JUDGEMENT, images=trained.slot(2))
        rows, scale = [plain], family.trained_scale
        for label in family.trained:
            canvas.column(NARROW)
            given = loaded, trained, conditions, latent
            rows.append(guided_sampler(canvas, family, f"To {label}", *given, label, scale, seed=7))
    sheet(canvas, family, loaded.vae, rows)
