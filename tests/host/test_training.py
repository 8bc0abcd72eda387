"""Training, judging, saving and using a noisy classifier in a real ComfyUI, on the digits' own pictures."""

import numpy as np
import pytest
import torch
from graph import SIZE, Graph, classifier_guidance, folder, fresh, guided_digits, ksampler, progress, read, train
from PIL import Image

from devtools.server import TEXT, PromptFailed, PromptInterrupted, PromptRejected
from guidance_core import demo
from guidance_core.classifier.noisy import NoisyClassifier, read_card


def classifiers(server):
    return server.base / "models" / "noisy_classifiers"


def said(result, node):
    return "\n".join(result.texts.get(node.node, []))


def test_two_folders_to_a_classifier_that_guides(server):
    """Train on two folders, judge, save; then load by name and steer unconditional samples to one of the two."""
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    three = folder(g, digits, "digits demo/three", "drei")
    both = folder(g, digits, "digits demo/seven", "sieben", examples=three)
    trained = train(g, digits, both, "two digits", steps=200)
    judged = g.GuidanceKitEvaluateNoisyClassifier(model=digits, classifier=trained, examples=both, repeats=2)
    g.GuidanceKitSaveNoisyClassifier(
        classifier=judged, name="tests/two digits", replace=False, licence="CC0", author="", preview=trained.slot(1)
    )
    report = g.PreviewAny(source=trained.slot(4))
    pictures = [g.PreviewImage(images=trained.slot(slot)) for slot in (1, 2)]
    losses = g.LossGraphNode(loss=trained.slot(3), filename_prefix="loss")
    result = server.run(g.prompt)
    assert "40 drei, 40 sieben" in said(result, both)
    assert "Guide between log-SNR" in result.outputs[report.node]["text"][0]
    assert "begin with scale" in said(result, judged)
    assert result.images(losses.node)
    for node in pictures:
        (image,) = result.images(node.node)
        assert np.asarray(image).std() > 10, "an empty picture"
    previews = [data for kind, data in result.messages if kind == "progress_state"]
    assert len(previews) > 10
    file = classifiers(server) / "tests" / "two digits.safetensors"
    card = read_card(file)
    assert (card.labels, card.latent_space, card.record.licence) == (["drei", "sieben"], "Digits", "CC0")
    assert card.record.path == "VE" and card.record.latent_scale == 1.0 and card.record.preview[:4] == b"\x89PNG"
    assert card.record.bins[-1].accuracy > 0.9 and card.record.suggestion.scale >= 1
    assert not list(classifiers(server).glob("two digits*unfinished*"))

    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    loaded = g.GuidanceKitLoadNoisyClassifier(file="tests/two digits.safetensors")
    target = g.GuidanceKitGuidanceTarget(
        classifier={"classifier": "tests/two digits.safetensors", "label": "sieben"}, away=False, weight=1.5
    )
    target = g.GuidanceKitGuidanceTarget(
        classifier={"classifier": "tests/two digits.safetensors", "label": "drei"}, away=True, weight=1.0, add_to=target
    )
    text = g.PreviewAny(source=target)
    null = g.GuidanceKitNullConditionEncoder(model=digits, kind={"kind": "class null label"})
    latent = g.EmptyLatentImage(width=SIZE, height=SIZE, batch_size=16)
    nodes = []
    for scale in (0.0, 4.0):
        model = classifier_guidance(g, digits, loaded, target, scale)
        sampled = ksampler(g, model, 1.0, 15, "ddim", "simple", latent, null, null, seed=3)
        nodes.append(g.ProbeRead(latent=sampled, nonce=fresh()))
    result = server.run(g.prompt)
    assert result.outputs[text.node]["text"][0] == "(sieben:1.5), -drei"
    assert "2 labels: drei, sieben" in said(result, loaded)
    classifier = NoisyClassifier.load(file)
    shares = []
    for node in nodes:
        x0 = torch.from_numpy(read(result, node).latent.copy())
        shares.append(float((classifier(x0, 0.1).argmax(1) == 1).float().mean()))
    assert shares[1] > 0.9 > shares[0] + 0.15


def test_cancel_keeps_a_usable_file_and_running_again_goes_on(server):
    def build(steps=400):
        g = Graph()
        digits = g.GuidanceKitLoadDigitsDemo()
        trained = train(g, digits, folder(g, digits), "cancelled", steps=steps, evaluate_every=50)
        g.GuidanceKitSaveNoisyClassifier(classifier=trained, name="whole", replace=True, licence="", author="")
        return g, trained

    g, trained = build()
    states = server.base / "user" / "guidance_kit" / "trainings"
    of_others = set(states.iterdir()) if states.is_dir() else set()
    seen = []

    def cancel(kind, data):
        if kind == "progress_state":
            each = data["nodes"].get(trained.node)
            if each and each["max"] == 400 and each["value"] >= 120 and not seen:
                seen.append(each["value"])
                server.interrupt()

    with pytest.raises(PromptInterrupted):
        server.run(g.prompt, watch=cancel)
    file = classifiers(server) / "cancelled (unfinished).safetensors"
    stopped = read_card(file).record.training["trained_steps"]
    assert 120 <= stopped < 400
    assert list(NoisyClassifier.load(file).labels) == ["seven", "three"]

    other = Graph()  # the server is clean
    digits = other.GuidanceKitLoadDigitsDemo()
    loaded = other.GuidanceKitLoadNoisyClassifier(file=file.name)
    null = other.GuidanceKitNullConditionEncoder(model=digits, kind={"kind": "class null label"})
    sampled = guided_digits(other, digits, null, classifier=loaded)
    node = other.ProbeRead(latent=sampled, nonce=fresh())
    assert node.node in server.run(other.prompt).outputs

    g, trained = build()
    result = server.run(g.prompt)
    steps = progress(result.messages, trained, 400)
    assert steps[0] > stopped, "it began anew"
    assert steps[-1] == 400
    assert not file.exists()
    assert read_card(classifiers(server) / "whole.safetensors").record.training["trained_steps"] == 400
    assert set(states.iterdir()) == of_others


def cancelled(server, seed, at=10):
    """Train under one name with a seed, and press Cancel at a step; what the node says then."""
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    trained = train(g, digits, folder(g, digits), "shared name", steps=150, evaluate_every=150, seed=seed)
    g.PreviewAny(source=trained.slot(4))
    pressed, said = [], []

    def cancel(kind, data):
        if kind == TEXT and data["node"] == trained.node:
            said.append(data["text"])
        if kind == "progress_state":
            each = data["nodes"].get(trained.node)
            if each and each["max"] == 150 and each["value"] >= at and not pressed:
                pressed.append(each["value"])
                server.interrupt()

    with pytest.raises(PromptInterrupted):
        server.run(g.prompt, watch=cancel)
    return "\n".join(said)


def test_cancelled_trainings_of_one_name_are_numbered_and_touch_only_their_own(server):
    own = classifiers(server) / "shared name (unfinished).safetensors"
    NoisyClassifier.load(demo.FOLDER / "classifier.safetensors").save(own)  # the user's own file of this name
    left = own.read_bytes()
    assert "kept as shared name (unfinished 2).safetensors. Run to go on." in cancelled(server, 1)
    second, third = (own.with_name(f"shared name (unfinished {n}).safetensors") for n in (2, 3))
    steps = read_card(second).record.training["trained_steps"]
    assert "kept as shared name (unfinished 3).safetensors" in cancelled(server, 2)  # another seed, another training
    assert "kept as shared name (unfinished 2).safetensors" in cancelled(server, 1, at=steps + 10)
    assert read_card(second).record.training["trained_steps"] >= steps + 10
    assert own.read_bytes() == left and third.exists()

    second.write_bytes(left)  # the user put another in its place
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    trained = train(g, digits, folder(g, digits), "shared name", steps=150, evaluate_every=150, seed=1)
    g.PreviewAny(source=trained.slot(4))
    server.run(g.prompt)
    assert second.read_bytes() == left and own.read_bytes() == left and third.exists()


def test_a_damaged_state_is_set_aside_and_training_begins_anew(server):
    states = server.base / "user" / "guidance_kit" / "trainings"
    before = set(states.glob("*"))
    cancelled(server, 3)
    (state,) = set(states.glob("*.safetensors")) - before
    state.write_bytes(b"torn")
    said = cancelled(server, 3)
    aside = f"{state.stem} (damaged).safetensors"
    assert f"it was set aside as '{aside}', and training begins anew." in said and "Run to go on." in said
    assert (states / aside).read_bytes() == b"torn" and state.stat().st_size > 10_000


def test_labelled_latents_and_a_damaged_picture(server):
    """Latents from the graph join those of a folder; a picture that cannot be read is named and left out."""
    place = server.base / "input" / "mine"
    place.mkdir(parents=True, exist_ok=True)
    for i in range(5):
        Image.new("RGB", (40, 30), (40 * i, 10, 90)).save(place / f"{i}.png")
    (place / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    mine = folder(g, digits, "mine", "mine")
    other = g.ProbeLatents(shape="6,1,16,16", level=0.0, seed=0)
    both = g.GuidanceKitLabelledLatents(**{"latents.latent0": other}, labels="other", examples=mine)
    g.GuidanceKitSaveNoisyClassifier(
        classifier=train(g, digits, both, "mixed", steps=4), name="mixed", replace=True, licence="", author=""
    )
    result = server.run(g.prompt)
    assert "5 mine, 6 other" in said(result, both)
    assert "Skipped 1:\nbroken.png: cannot be read as a picture" in said(result, mine)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda g, d: train(g, d, folder(g, d, "digits demo/three", "a"), "x"),
            "Train Noisy Classifier: A classifier needs at least 2 labels",
        ),
        (
            lambda g, d: train(g, g.ProbeModel(kind="eps", seed=0, nonce=0), folder(g, d), "x"),
            "Train Noisy Classifier: the latents have 1 channels, this model has 4",
        ),
        (
            lambda g, d: train(g, d, folder(g, d), "../x"),
            "Train Noisy Classifier: '../x (unfinished)' cannot be the name",
        ),
        (
            lambda g, d: g.GuidanceKitLabelledLatents(
                **{"latents.latent0": g.EmptyLatentImage(width=64, height=64, batch_size=2)}, labels="a, b"
            ),
            "Labelled Latents: there are 1 latent batches and 2 labels ('a, b')",
        ),
        (
            lambda g, d: g.GuidanceKitEvaluateNoisyClassifier(
                model=d, classifier=d.slot(2), examples=folder(g, d, "digits demo/three", "drei"), repeats=1
            ),
            "Evaluate Noisy Classifier: the classifier does not know drei: its labels are zero, one",
        ),
        (
            lambda g, d: folder(g, d, "nowhere"),
            "Labelled Folder: there is no folder 'nowhere' in ComfyUI's input folder",
        ),
    ],
    ids=["one label", "channels", "name", "labels", "unknown", "folder"],
)
def test_refusals(server, build, sentence):
    g = Graph()
    node = build(g, g.GuidanceKitLoadDigitsDemo())
    g.PreviewAny(source=node)
    with pytest.raises((PromptFailed, PromptRejected)) as caught:
        server.run(g.prompt)
    error = caught.value
    assert sentence in (error.exception_message if isinstance(error, PromptFailed) else str(error))


SIZES = [(16, 16), (12, 20), (24, 10)]  # of latents: three aspect ratios


@pytest.mark.parametrize("family", ["SD15", "SDXL", "SD3", "Flux", "Wan21"])
def test_latents_of_every_family_train_and_guide(server, family):
    """In the host's own latent formats, at three aspect ratios and with fp16, bf16 and fp32 models."""
    channels = 4 if family.startswith("SD1") or family == "SDXL" else 16
    g = Graph()
    nodes = {}
    for (height, width), dtype in zip(SIZES, ("fp16", "bf16", "fp32"), strict=True):
        model = g.ProbeFamily(family=family, dtype=dtype, nonce=fresh())
        frames = "3," if family == "Wan21" else ""
        shape = f"{{}},{channels},{frames}{height},{width}"
        dark, bright = (g.ProbeLatents(shape=shape.format(6), level=level, seed=1) for level in (-1.0, 1.0))
        examples = g.GuidanceKitLabelledLatents(
            **{"latents.latent0": dark, "latents.latent1": bright}, labels="dark, bright"
        )
        trained = train(
            g, model, examples, f"{family} {dtype}", steps=6, batch=8, evaluate_every=3, flip=True, crop=True
        )
        empty = g.ProbeLatents(shape=shape.format(2), level=0.0, seed=2)
        for scale in (0.0, 50.0):
            guided = classifier_guidance(g, model, trained, "bright, -dark", scale, max_shift=0.5)
            sampled = ksampler(g, guided, steps=3, latent=empty)
            nodes[dtype, scale] = g.ProbeRead(latent=sampled, nonce=fresh())
    result = server.run(g.prompt)
    for dtype in ("fp16", "bf16", "fp32"):
        off, on = (read(result, nodes[dtype, scale]).latent for scale in (0.0, 50.0))
        assert off.shape == on.shape and on.shape[1] == channels and on.ndim == (5 if family == "Wan21" else 4)
        assert np.isfinite(on).all()
        assert np.abs(on - off).max() > 1e-5 * np.abs(off).max(), dtype
