"""Graphs of classifier guidance: its scale, what a target can say, and where it may act."""

from devtools.workflows.canvas import BROWN, Canvas, Output
from devtools.workflows.families import Family
from devtools.workflows.parts import (
    BASICS,
    combined,
    guided_rows,
    introduce,
    ksampler,
    schedule,
    sheet,
    steerable,
    steered,
)


def classifier_guidance_at_four_scales(canvas: Canvas, family: Family) -> None:
    """The same noise, unguided and under three strengths."""
    first, second = family.pair
    introduce(
        canvas,
        family,
        "A noisy classifier steers the model towards its target. Every row starts from the same noise; only "
        f"**classifier_scale** differs: {', '.join(f'{scale:g}' for scale in family.scales)}. 0 is no guidance, 1 is "
        "exact Bayes, more is clearer and less varied.\n\n"
        "**Look at** the trace on each sampler: its scale, the log-probability of the target, and the size of the "
        "gradient at every step.\n\n"
        f"**Change first:** the **Target**, which goes to all four: *{first}*, or *{first} | {second}* in turn over "
        "the batch. Then the scale.",
        classifier=True,
    )
    loaded, classifier, conditions, latent = steerable(canvas, family)
    with canvas.group("What to steer to"):
        target = canvas.node("PrimitiveString", "Target", value=family.target)
    branches = {f"Classifier scale {scale:g}": (target, scale) for scale in family.scales}
    heading = "The same noise at four scales"
    rows = guided_rows(canvas, family, heading, branches, loaded, classifier, conditions, latent)
    canvas.ask(target, "value")
    canvas.ask(rows[-1], "classifier_scale", "seed")
    sheet(canvas, family, loaded.vae, rows)


def steer_away_with_a_negative_target(canvas: Canvas, family: Family) -> None:
    """A target with a minus in front."""
    first, second = family.pair
    introduce(
        canvas,
        family,
        "A minus in front of a label steers **away** from it. Every row starts from the same noise: no guidance, "
        f"towards *{second}*, away from *{second}*, away from both *{first}* and *{second}*.\n\n"
        "**Look at** the pictures that showed it without guidance: they turn into something else. Those that did not "
        "hardly change, for there the classifier has nothing against them.\n\n"
        f"**Change first:** the targets. Both signs go together (*{first}, -{second}*), and so do weights "
        f"(*(-{second}:2)*). A negative *scale* is not the same: it pushes on where the label is long gone.",
        classifier=True,
    )
    loaded, classifier, conditions, latent = steerable(canvas, family)
    branches = {
        "No guidance": (second, 0.0),
        f"To {second}": (second, family.push),
        f"Away from {second}": (f"-{second}", family.push),
        f"Away from {first} and {second}": (f"-{first}, -{second}", family.push),
    }
    heading = "The same noise, other targets"
    rows = guided_rows(canvas, family, heading, branches, loaded, classifier, conditions, latent)
    sheet(canvas, family, loaded.vae, rows)


def two_targets_at_once(canvas: Canvas, family: Family) -> None:
    """Two labels in one text, and two nodes with one label each."""
    first, second = family.pair
    introduce(
        canvas,
        family,
        f"Two labels in one picture. Rows 1 and 2 steer to *{first}* and to *{second}* alone. Row 3 asks for both in "
        f"one text, *{first}, {second}*. Row 4 has two **Classifier Guidance** nodes, each with a scale and a schedule "
        f"of its own: *{first}* in the first half of the steps, *{second}* in the second. They could just as well use "
        "two classifiers.\n\n"
        "**Look at** rows 3 and 4: pictures that are a bit of both, and which of the two shapes came first.\n\n"
        f"**Change first:** the weights in the text, *({first}:2), {second}*. With a bar in place of the comma, "
        f"*{first} | {second}*, the pictures of a batch take turns.",
        classifier=True,
    )
    loaded, classifier, conditions, latent = steerable(canvas, family)
    early, late = _halves(canvas)
    rows = []
    branches = {
        f"To {first}": [(first, {})],
        f"To {second}": [(second, {})],
        f"One text: {first}, {second}": [(f"{first}, {second}", {})],
        f"Two nodes: {first}, then {second}": [(first, {"schedule": early}), (second, {"schedule": late})],
    }
    with canvas.group("Classifier Guidance on the model, an ordinary KSampler", BROWN):
        for title, terms in branches.items():
            canvas.column()
            model = loaded.model
            for target, when in terms:
                model = _steered(canvas, family, model, classifier, target, when)
            rows.append(ksampler(canvas, family, title, model, conditions, latent, cfg=family.cfg))
    sheet(canvas, family, loaded.vae, rows)


def paint_over_one_half(canvas: Canvas, family: Family) -> None:
    """Inpainting: half of each picture is kept, a classifier decides the other half."""
    first, second = family.halves
    introduce(
        canvas,
        family,
        "Row 1 is sampled, its upper half is kept, and the lower half is painted anew: without guidance, then towards "
        f"*{first}*, then towards *{second}*. A noise mask is all it takes; the sampler keeps what is black in it.\n\n"
        "**Look at** the lower halves: the classifier sees the whole picture, so the new half fits the kept one and "
        "makes the target of both.\n\n"
        "**Change first:** the targets. For another part of the picture move the white field (y of **Mask "
        "Composite**), or paint a mask on **Load Image**; for a picture of your own, **VAE Encode** it in place of "
        "the first sampler.",
        classifier=True,
    )
    loaded, classifier, conditions, latent = steerable(canvas, family)
    with canvas.group("A picture, half to paint over"):
        original = ksampler(
            canvas, family, "Sampled; the upper half is kept", loaded.model, conditions, latent, family.cfg, seed=1
        )
        black = canvas.node("SolidMask", "Keep", value=0.0, width=family.size, height=family.size)
        white = canvas.node("SolidMask", "Paint over", value=1.0, width=family.size, height=family.size // 2)
        mask = canvas.node("MaskComposite", destination=black, source=white, x=0, y=family.size // 2, operation="add")
        masked = canvas.node("SetLatentNoiseMask", samples=original, mask=mask)
    branches = {
        "No guidance": (first, 0.0),
        f"To {first}": (first, family.push),
        f"To {second}": (second, family.push),
    }
    heading = "The lower half anew"
    rows = guided_rows(canvas, family, heading, branches, loaded, classifier, conditions, masked, seed=2)
    sheet(canvas, family, loaded.vae, [original, *rows])


def a_classifier_beside_cfg(canvas: Canvas, family: Family) -> None:
    """CFG and a classifier on one model, each with its own schedule."""
    label = family.pair[1]
    introduce(
        canvas,
        family,
        f"The prompt asks for {family.one_thing}, the classifier wants *{label}*, and each has a schedule of its own. "
        "Row 1 is CFG alone, in row 2 both act at every step, in row 3 CFG comes first and the classifier after it, "
        "in row 4 it is the other way round.\n\n"
        "**Look at** who has the last word: what comes late bends what is there already. After a run **CFG Combine** "
        "says how many passes it ran: where its schedule is 0 there is one a step, not two.\n\n"
        "**Change first:** where the two halves meet (end of one **Scale Schedule**, start of the other), then the "
        "two scales.",
        classifier=True,
    )
    with canvas.group(BASICS):
        loaded = family.load(canvas)
        classifier = family.classifier(canvas, loaded)
        conditions = family.one(canvas, loaded), family.null(canvas, loaded)
        latent = family.latent(canvas)
    early, late = _halves(canvas)

    def cfg(when: dict) -> Output:
        return combined(canvas, loaded, family.scale, **when)

    with canvas.group("Classifier-free guidance and a classifier, one after the other", BROWN):
        always = cfg({})
        rows = [ksampler(canvas, family, "CFG alone", always, conditions, latent)]
        canvas.column()
        both = _steered(canvas, family, always, classifier, label, {})
        rows.append(ksampler(canvas, family, f"CFG and {label} at every step", both, conditions, latent))
        for title, cfg_when, when in (
            (f"First CFG, then {label}", early, late),
            (f"First {label}, then CFG", late, early),
        ):
            canvas.column()
            guided = cfg({"schedule": cfg_when})
            guided = _steered(canvas, family, guided, classifier, label, {"schedule": when})
            rows.append(ksampler(canvas, family, title, guided, conditions, latent))
    sheet(canvas, family, loaded.vae, rows)


def _halves(canvas: Canvas) -> list[Output]:
    """Two schedules: on in the first half of the steps, and in the second."""
    made = []
    with canvas.group("Two schedules"):
        for start, end in ((0.0, 0.5), (0.5, 1.0)):
            canvas.column()
            window = {"axis": "step", "start": start, "end": end}
            made.append(schedule(canvas, f"Steps {start:.0%} to {end:.0%}", "interval", axis=window))
    return made


def _steered(canvas: Canvas, family: Family, model: Output, classifier: Output, target: str, when: dict) -> Output:
    """The model under a Classifier Guidance node."""
    return steered(canvas, model, classifier, target, family.push, f"To {target}", **when)
