"""Graphs of guidance by judges of clean pictures."""

from devtools.workflows.canvas import BROWN, Canvas, Model
from devtools.workflows.families import Family
from devtools.workflows.family_settings import HUB
from devtools.workflows.parts import SAID, introduce, ksampler, prompted, sheet, steerable, steered

NOISY = 2.0  # the noisy classifier's scale
ANCESTRAL = "euler_ancestral"  # a judge of clean pictures wants noise at every step
CLIP_VISION = Model(
    "clip_vision_h.safetensors",
    f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/clip_vision/clip_vision_h.safetensors",
    "clip_vision",
)


def a_clean_judge_beside_a_noisy_classifier(canvas: Canvas, family: Family) -> None:
    """Both kinds of classifier on the same noise."""
    introduce(
        canvas,
        family,
        "Row 1 has no guidance. Row 2 is steered by the **noisy classifier**, which was trained on noisy latents. Row "
        "3 by a **clean judge**, a small network that has seen clean digits alone: it judges what the model predicts "
        "at each step, as any image classifier off the shelf can (**Load Image Classifier**).\n\n"
        "**Look at** rows 2 and 3: both show what was asked for. The clean judge wants a sampler that adds noise "
        "(*euler_ancestral*, an SDE one); on *ddim* its pictures are worse. Its own probability is no measure of "
        "success, so look at the pictures.\n\n"
        "**Change first:** the **Target**, then the two scales: 1 is usual for a clean judge, 1 to 4 for a noisy one.",
    )
    loaded, classifier, conditions, latent = steerable(canvas, family)
    with canvas.group("What to steer to"):
        target = canvas.node("PrimitiveString", "Target", value=family.target)
    branches = {"No guidance": (), "The noisy classifier": (classifier, NOISY), "The clean judge": (loaded.clean, 1.0)}
    rows, last = [], None
    with canvas.group("The same noise, an ancestral sampler", BROWN):
        for title, steering in branches.items():
            canvas.column()
            model = loaded.model
            if steering:
                judge, scale = steering
                model = last = steered(canvas, model, judge, target, scale, title)
            rows.append(ksampler(canvas, family, title, model, conditions, latent, seed=4, sampler_name=ANCESTRAL))
    canvas.ask(target, "value")
    canvas.ask(last, "scale")
    sheet(canvas, family, loaded.vae, rows)


def steer_by_a_reference_picture(canvas: Canvas, family: Family) -> None:
    """Likeness to a picture, as a CLIP vision model sees it."""
    introduce(
        canvas,
        family,
        "Row 1 is the prompt alone. Row 2 is also steered towards the picture in **Load Image**: a CLIP vision model "
        "judges, at each step, how like it the predicted picture is. No adapter, no training.\n\n"
        "**Look at** colours, light and subject: they lean towards the reference, the layout stays the prompt's. After "
        "a run the node says what judging cost.\n\n"
        "**Change first:** the picture, then the scale (0.5 to 3). Pictures to be unlike go into *others*. It also "
        "needs *clip_vision_h.safetensors* in models/clip_vision, and in models/vae_approx "
        f"*{family.small_vae}_encoder* and *{family.small_vae}_decoder* (.safetensors); the model's own VAE will do, "
        "too, and takes longer.",
    )
    loaded, conditions, latent = prompted(canvas, family)
    with canvas.group("A picture to be like"):
        vision = canvas.node("CLIPVisionLoader", models=[CLIP_VISION], clip_name=CLIP_VISION.name)
        shown = canvas.node("LoadImage", room=200, image="example.png")
        small = canvas.node("VAELoader", "A small VAE to look through", vae_name=family.small_vae)
        likeness = canvas.node("GuidanceKitImageReferences", room=SAID, clip_vision=vision, images=shown, vae=small)
    how = {"cfg": family.scale, "sampler_name": ANCESTRAL}
    with canvas.group("The same noise", BROWN):
        rows = [ksampler(canvas, family, "The prompt alone", loaded.model, conditions, latent, **how)]
        canvas.column()
        model = steered(canvas, loaded.model, likeness, "reference", 1.0, "Towards the picture")
        rows.append(ksampler(canvas, family, "Towards the picture", model, conditions, latent, **how))
    canvas.ask(shown, "image")
    canvas.ask(model, "scale")
    sheet(canvas, family, loaded.vae, rows)
