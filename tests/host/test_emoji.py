"""The bundled emoji in a real ComfyUI: the library's own numbers, latents with scale and shift, attention patches."""

import numpy as np
import pytest
import torch
from graph import Graph, classifier_guidance, fresh, read, train
from PIL import Image, ImageDraw

import guidance_core as gc
from guidance_core.classifier.noisy import NoisyClassifier
from guidance_core.demo import emoji


def sampled(g, demo, model, names, cfg=3.0, steps=8):
    """Latents of the classes named, as KSampler draws them with euler."""
    positive = g.GuidanceKitClassCondition(model=demo, label=" | ".join(names))
    negative = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=demo)
    latent = g.EmptyLatentImage(width=64, height=64, batch_size=len(names))
    common = {"seed": 3, "steps": steps, "cfg": cfg, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    return g.KSampler(model=model, positive=positive, negative=negative, latent_image=latent, **common)


def test_host_and_library_give_the_same_emoji(server):
    """The same noise and levels through ComfyUI's own UNet and through guidance_core's: the same raw latents."""
    names = ["face", "heart", "clock"]
    g = Graph()
    demo = g.GuidanceKitLoadEmojiDemo()
    node = g.ProbeRead(latent=sampled(g, demo, demo, names), nonce=fresh())
    latent = read(server.run(g.prompt), node).latent

    d = emoji.load()
    levels = d.sigmas.float().log()
    timesteps = torch.linspace(999, 0, 8)
    low, high = timesteps.floor().long(), timesteps.ceil().long()
    sigmas = torch.cat([((1 - timesteps.frac()) * levels[low] + timesteps.frac() * levels[high]).exp(), torch.zeros(1)])
    noise = torch.randn((3, *d.shape), generator=torch.manual_seed(3))
    labels = [d.labels.index(name) for name in names]
    x0 = gc.sample(
        gc.cfg_guided(d.cond(labels), d.uncond, 3.0),
        noise * (1 + sigmas[0] ** 2).sqrt() / sigmas[0],  # ComfyUI begins at sqrt(1 + sigma^2)
        sigmas,
        "euler",
    )
    np.testing.assert_allclose(latent, (x0 / d.scale + d.shift).numpy(), atol=5e-3)


def test_vae_takes_pictures_back_to_latents(server):
    g = Graph()
    demo = g.GuidanceKitLoadEmojiDemo()
    latent = sampled(g, demo, demo, ["face", "flag"])
    there = g.ProbeRead(latent=latent, nonce=fresh())
    decoded = g.VAEDecode(samples=latent, vae=demo.slot(1))
    back = g.ProbeRead(latent=g.VAEEncode(pixels=decoded, vae=demo.slot(1)), nonce=fresh())
    picture = g.PreviewImage(images=decoded)
    result = server.run(g.prompt)
    before, after = read(result, there).latent, read(result, back).latent
    assert after.shape == before.shape == (2, 4, 16, 16)
    assert result.images(picture.node)[0].size == (64, 64)
    d = emoji.load()
    again, once = (d.vae.decode(torch.from_numpy(raw.copy())).clamp(0, 1) for raw in (after, before))
    assert (again - once).abs().mean() < 0.05


def test_perturbed_attention_acts_on_it(server):
    """ComfyUI's own attention patch changes the samples: the UNet is the host's."""
    g = Graph()
    demo = g.GuidanceKitLoadEmojiDemo()
    patched = g.PerturbedAttentionGuidance(model=demo, scale=2.0)
    plain, perturbed = (g.ProbeRead(latent=sampled(g, demo, m, ["face"]), nonce=fresh()) for m in (demo, patched))
    result = server.run(g.prompt)
    assert np.abs(read(result, plain).latent - read(result, perturbed).latent).mean() > 1e-3


def test_no_condition_is_the_null_label(server):
    g = Graph()
    demo = g.GuidanceKitLoadEmojiDemo()
    nulls = [
        g.GuidanceKitNullConditionEncoder(kind={"kind": "none"}),
        g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=demo),
    ]
    common = {"seed": 3, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    latent = g.EmptyLatentImage(width=64, height=64, batch_size=1)
    nodes = [
        g.ProbeRead(
            latent=g.KSampler(model=demo, positive=null, negative=null, latent_image=latent, **common), nonce=fresh()
        )
        for null in nulls
    ]
    result = server.run(g.prompt)
    none, label = (read(result, node).latent for node in nodes)
    np.testing.assert_allclose(none, label, atol=1e-5)


def steered(g, demo, classifier, target, scale, sampler="euler", batch=4):
    """Latents under no class, steered by a classifier."""
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=demo)
    latent = g.EmptyLatentImage(width=64, height=64, batch_size=batch)
    model = classifier_guidance(g, demo, classifier, target, scale) if scale else demo
    common = {"seed": 3, "steps": 6, "cfg": 1.0, "sampler_name": sampler, "scheduler": "sgm_uniform", "denoise": 1.0}
    return g.KSampler(model=model, positive=null, negative=null, latent_image=latent, **common)


def pictures(latent):
    """Raw latents of a reading as images [B, 3, 64, 64]."""
    return emoji.load().vae.decode(torch.from_numpy(latent.copy())).clamp(0, 1)


@pytest.mark.parametrize(
    ("slot", "target", "scale", "sampler"),
    [(2, "flag", 6.0, "euler"), (3, "blue", 6.0, "euler"), (4, "flag", 2.0, "euler_ancestral")],
    ids=["classes", "attributes", "guide"],
)
def test_each_of_its_classifiers_steers_it(server, slot, target, scale, sampler):
    """The same noise with and without the classifier: the judge sees more of what was asked for, or its colour is."""
    g = Graph()
    demo = g.GuidanceKitLoadEmojiDemo()
    latents = [steered(g, demo, demo.slot(slot), target, strength, sampler) for strength in (0.0, scale)]
    nodes = [g.ProbeRead(latent=latent, nonce=fresh()) for latent in latents]
    result = server.run(g.prompt)
    free, guided = (pictures(read(result, node).latent) for node in nodes)
    if target == "blue":
        assert (guided[:, 2] - guided[:, 0]).mean() > (free[:, 2] - free[:, 0]).mean() + 0.05
    else:
        wanted = emoji.LABELS.index(target)
        judge = emoji.load().judge
        assert judge(guided).softmax(1)[:, wanted].mean() > judge(free).softmax(1)[:, wanted].mean() + 0.1


def drawn_folder(server, name):
    """Twenty red discs and twenty blue squares of any size as PNG files, in a folder each."""
    generator = np.random.default_rng(0)
    for kind, colour in (("red disc", (220, 40, 40)), ("blue square", (40, 90, 220))):
        place = server.base / "input" / name / kind
        place.mkdir(parents=True)
        for i in range(20):
            image = Image.new("RGB", (64, 64), "white")
            x, y, r = generator.integers(26, 38), generator.integers(26, 38), generator.integers(14, 26)
            draw = ImageDraw.Draw(image).ellipse if "disc" in kind else ImageDraw.Draw(image).rectangle
            draw((x - r, y - r, x + r, y + r), fill=colour)
            image.save(place / f"{i}.png")


def examples_of(g, demo):
    return g.GuidanceKitLabelledFolder(folder="drawn", vae=demo.slot(1), label="", width=64, height=64)


def redness(image):
    """How much more red than blue a picture is, of 255."""
    pixels = np.asarray(image.convert("RGB"), dtype=float)
    return (pixels[..., 0] - pixels[..., 2]).mean()


def test_png_files_to_a_classifier_of_real_latents_that_guides(server):
    """Folder, VAE, cache, training, file, loading, guidance, decoding: scale and shift are undone and done at each."""
    drawn_folder(server, "drawn")
    saved = server.base / "models" / "noisy_classifiers" / "tests" / "drawn.safetensors"
    g = Graph()
    demo = g.GuidanceKitLoadEmojiDemo()
    examples = examples_of(g, demo)
    trained = train(g, demo, examples, "drawn", steps=40)
    g.GuidanceKitSaveNoisyClassifier(classifier=trained, name="tests/drawn", replace=False, licence="", author="")
    texts = server.run(g.prompt).texts
    assert "20 blue square, 20 red disc" in "\n".join(texts[examples.node])
    d, classifier = emoji.load(), NoisyClassifier.load(saved)
    record = classifier.card.record
    assert classifier.card.latent_space == "Emoji"
    np.testing.assert_allclose([record.latent_scale, record.latent_shift], [d.scale, d.shift], rtol=1e-5)

    files = sorted((server.base / "input" / "drawn").rglob("*.png"))
    images = torch.stack([torch.from_numpy(np.asarray(Image.open(file)) / 255.0).movedim(-1, 0) for file in files])
    x0 = d.encode(images.float())
    found = classifier(x0, 0.2).argmax(1)
    names = [classifier.labels[i] for i in found]
    assert sum(name == file.parent.name for name, file in zip(names, files, strict=True)) >= 36

    g = Graph()
    demo = g.GuidanceKitLoadEmojiDemo()
    again = g.ProbeRead(latent=g.ProbeExamples(examples=examples_of(g, demo)), nonce=fresh())
    loaded = g.GuidanceKitLoadNoisyClassifier(file="tests/drawn.safetensors")
    decoded = [
        g.VAEDecode(samples=steered(g, demo, loaded, f"{sign}red disc", 6.0), vae=demo.slot(1)) for sign in ("", "-")
    ]
    shown = [g.PreviewImage(images=images) for images in decoded]
    result = server.run(g.prompt)
    kept = torch.from_numpy(read(result, again).latent.copy())
    assert kept.shape == (40, 4, 16, 16)
    assert torch.cdist(kept.flatten(1), d.vae.encode(images.float()).flatten(1)).min(1).values.max() < 0.05
    red, blue = (np.mean([redness(image) for image in result.images(node.node)]) for node in shown)
    assert red > blue + 10
