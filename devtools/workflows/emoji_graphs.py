"""Graphs of the bundled emoji: what a scale that is too high burns, and classifiers for what no class says."""

from devtools.workflows.canvas import BROWN, Canvas, Output
from devtools.workflows.families import Emoji
from devtools.workflows.parts import (
    BASICS,
    PREVIEW,
    SAID,
    combined,
    guided_sampler,
    introduce,
    ksampler,
    prompted,
    schedule,
    sheet,
)

ANCESTRAL = "euler_ancestral"


def emoji_at_a_burning_scale(canvas: Canvas, family: Emoji) -> None:
    """CFG off, as it should be, far too high, and three ways to bear that."""
    start, end = family.interval
    introduce(
        canvas,
        family,
        f"Row 1: the class alone (CFG off), unsure of its shapes. Row 2: CFG {family.scale:g}, clearer. Row 3: CFG "
        f"{family.high:g}, far too much: burnt colours, dark edges. Rows 4 to 6 are the same scale, only while "
        f"{start:g} >= sigma > {end:g}, then with the method *apg*, then with *rescale*.\n\n"
        "**Look at** the colours from row 2 to 3 and back in row 4, and at the line that each **CFG Combine** writes "
        "on itself after a run: the interval runs fewer passes, and a pass is nearly all that a step costs. Methods "
        "made for large models do less on this small one.\n\n"
        "**Change first:** the interval and the method. Both go together, as do several CFG Combine nodes in a chain.",
    )
    loaded, conditions, latent = prompted(canvas, family)
    with canvas.group("When"):
        interval = schedule(canvas, "", "interval", axis={"axis": "sigma", "start": start, "end": end})
    branches = [
        ("CFG off", 1.0, {}),
        (f"CFG {family.scale:g}", family.scale, {}),
        (f"CFG {family.high:g}", family.high, {}),
        (f"CFG {family.high:g} in an interval", family.high, {"schedule": interval}),
        (f"CFG {family.high:g}, apg", family.high, {"method": "apg"}),
        (f"CFG {family.high:g}, rescale", family.high, {"method": "rescale"}),
    ]
    rows = []
    with canvas.group("One CFG each", BROWN):
        for title, scale, more in branches:
            canvas.column()
            rows.append(
                ksampler(
                    canvas, family, title, combined(canvas, loaded, scale, **more), conditions, latent, folded=True
                )
            )
    sheet(canvas, family, loaded.vae, rows)


def emoji_with_what_no_class_says(canvas: Canvas, family: Emoji) -> None:
    """Classifiers of attributes and of clean pictures, beside CFG and alone."""
    introduce(
        canvas,
        family,
        f"Every row starts from the same noise. Row 1 asks for classes by CFG {family.scale:g}. The model takes no "
        "colours: rows 2 and 3 add a classifier of **attributes**, trained apart from the model, that wants *blue* "
        "and *green*. Row 4 asks for nothing; row 5 wants *smiling* of the same noise, which to "
        "that classifier is a yellow face, and row 6 *flag*, by the "
        "**guide**, which knows clean pictures only and judges the one that each step predicts.\n\n"
        "**Look at** the shapes in rows 1 to 3: they stay, only their colour follows.\n\n"
        "**Change first:** a target: *red, round* or *yellow, -smiling*. The guide wants an ancestral sampler; on "
        "others it leaves patterns that only it can see.",
    )
    with canvas.group(BASICS):
        loaded = family.load(canvas)
        attributes, guide = loaded.model.slot(3), loaded.model.slot(4)
        asked, null = family.asked(canvas, loaded), family.null(canvas, loaded)
        latent = family.latent(canvas)

    def steered(model: Output, classifier: Output, target: str, scale: float) -> Output:
        values = {"classifier": classifier, "target": target, "scale": scale}
        return canvas.node("GuidanceKitClassifierGuidance", f"To {target}", room=60, model=model, **values)

    rows = []
    with canvas.group("Classes by CFG, colours by a classifier", BROWN):
        guided = combined(canvas, loaded, family.scale)
        rows.append(ksampler(canvas, family, f"CFG {family.scale:g}", guided, (asked, null), latent, folded=True))
        for colour in ("blue", "green"):
            canvas.column()
            model = steered(guided, attributes, colour, family.push)
            title = f"CFG {family.scale:g} and {colour}"
            rows.append(ksampler(canvas, family, title, model, (asked, null), latent, folded=True))
    with canvas.group("No class, classifiers alone", BROWN):
        rows.append(ksampler(canvas, family, "Nothing asked for", loaded.model, (null, null), latent, folded=True))
        canvas.column()
        model = steered(loaded.model, attributes, "smiling", family.push)
        rows.append(ksampler(canvas, family, "Smiling", model, (null, null), latent, folded=True))
        canvas.column()
        model, ancestral = steered(loaded.model, guide, "flag", 2.0), {"sampler_name": ANCESTRAL}
        rows.append(
            ksampler(canvas, family, "Flag, by the guide", model, (null, null), latent, folded=True, **ancestral)
        )
    sheet(canvas, family, loaded.vae, rows)


def emoji_learned_from_twenty_pictures(canvas: Canvas, family: Emoji) -> None:
    """A classifier of one kind of flag, learned from twenty of them and from what the model makes by itself."""
    kind, first, many = "upright stripes", 4.0, 120
    introduce(
        canvas,
        family,
        f"Twenty flags of **{kind}**, and {many} flags that the model makes by itself under the label **other**, "
        "become a noisy classifier within a minute. It then steers the same noise: row 1 is *flag* alone, "
        f"row 2 is steered to {kind}, row 3 twice as hard.\n\n"
        "**Look at** the stripes of one column from the first row to the last: they get up. The model knows no such "
        "word; the twenty pictures are all that says it.\n\n"
        "**Change first:** the folder. Twenty pictures of your own in ComfyUI's *input* folder will do, with the model "
        "and the class or prompt that they are a kind of.",
    )
    with canvas.group(BASICS):
        loaded = family.load(canvas)
        flag = canvas.node("GuidanceKitClassCondition", room=20, model=loaded.model, label="flag")
        conditions = flag, family.null(canvas, loaded)
        latent = family.latent(canvas)
    with canvas.group("Pictures of one kind, and samples"):
        more = {"cfg": family.scale, "seed": 7}
        rows = [ksampler(canvas, family, "Flags", loaded.model, conditions, latent, folded=True, **more)]
        examples = canvas.node(
            "GuidanceKitLabelledFolder",
            f"Pictures of {kind}",
            room=70,
            vae=loaded.vae,
            folder=f"emoji demo/{kind}",
            label=kind,
            width=family.size,
            height=family.size,
        )
        own = canvas.fold(family.latent(canvas, many))
        title = "The model's own flags"
        own = ksampler(canvas, family, title, loaded.model, conditions, own, folded=True, **more | {"seed": 5})
        examples = canvas.node(
            "GuidanceKitLabelledLatents", room=80, **{"latents.latent0": own}, examples=examples, labels="other"
        )
    with canvas.group("Train", BROWN):
        training = {"steps": 300, "batch": 32, "entropy_penalty": 0.0, "log_snr_low": -6.0, "log_snr_high": 5.0}
        trained = canvas.node(
            "GuidanceKitTrainNoisyClassifier",
            room=PREVIEW + SAID,
            model=loaded.model,
            examples=examples,
            name=f"{kind} ({family.name})",
            **training,
        )
    with canvas.group("Guide", BROWN):
        for title, scale in {f"To {kind}": first, "Twice as hard": 2 * first}.items():
            canvas.column()
            rows.append(guided_sampler(canvas, family, title, loaded, trained, conditions, latent, kind, scale, **more))
    sheet(canvas, family, loaded.vae, rows)
