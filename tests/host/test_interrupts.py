"""Cancel at any moment: the server goes on, and the same prompt then gives the bits of one that was never stopped."""

import contextlib
import shutil

import numpy as np
import pytest
from graph import (
    SIZE,
    Graph,
    all_in_one,
    cfg_combine,
    classifier_guidance,
    custom_sampler,
    folder,
    fresh,
    ksampler,
    read,
    schedule,
    train,
)
from PIL import Image

from devtools.server import PromptInterrupted
from guidance_core.classifier.noisy import NoisyClassifier
from guidance_core.demo.pictures import FOLDER


def stacked(g, model, classifier):
    """CFG with a method that has a memory, under a schedule, and a classifier behind it."""
    window = schedule(g, "linear", start=0.0, end=1.0, low=0.3)
    patched = cfg_combine(g, model, 5.0, "apg", window, eta=0.3, norm_threshold=5.0, momentum=-0.5)
    return classifier_guidance(g, patched, classifier, "cat, -dog", 5.0)


SAMPLERS = {
    "ksampler": lambda g, m, c: ksampler(g, stacked(g, m, c), sampler="heun"),
    "guider": lambda g, m, c: custom_sampler(g, stacked(g, m, c), "perp_neg", 4.0),
    "all in one": all_in_one,
}


def sampled(build, **interrupts):
    """A prompt whose model or classifier presses Cancel at one of its calls, once; the node that reads the result."""
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh(), interrupt_at=interrupts.get("model", 0))
    classifier = g.ProbeClassifier(
        channels=4,
        latent_space="",
        nan_below_log_snr=-1000.0,
        nonce=fresh(),
        most=0,
        interrupt_at=interrupts.get("classifier", 0),
    )
    return g, g.ProbeRead(latent=build(g, model, classifier), nonce=fresh())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_cancelled_sampling_leaves_nothing_behind(server, sampler):
    """In the model's pass the host stops at its next layer, in the classifier's gradient before the next pass."""
    g, node = sampled(SAMPLERS[sampler])
    whole = read(server.run(g.prompt), node).latent
    for moment in ({"model": 1}, {"model": 3}, {"classifier": 1}, {"classifier": 4}):
        g, node = sampled(SAMPLERS[sampler], **moment)
        with pytest.raises(PromptInterrupted):
            server.run(g.prompt)
        again = server.run(g.prompt)  # on the same MODEL and classifier, which ComfyUI has kept
        cached = {each for kind, data in again.messages if kind == "execution_cached" for each in data["nodes"]}
        assert len(cached) >= 4
        assert np.array_equal(read(again, node).latent, whole), moment


def presses_cancel(server, node, count, at):
    """A watch that cancels once the node's progress bar of so many steps is at `at`; what it saw is in `seen`."""

    def watch(kind, data):
        if kind == "progress_state" and not watch.seen:
            bar = data["nodes"].get(node.node)
            if bar and bar["max"] == count and bar["value"] >= at:
                watch.seen.append(bar["value"])
                server.interrupt()

    watch.seen = []
    return watch


def test_cancelled_evaluation(server):
    place = server.base / "input" / "judged"
    shutil.copytree(FOLDER, place, dirs_exist_ok=True)

    def judged(repeats):
        next(place.rglob("*.png")).touch()  # so that ComfyUI knows no answer yet
        g = Graph()
        digits = g.GuidanceKitLoadDigitsDemo()
        node = g.GuidanceKitEvaluateNoisyClassifier(
            model=digits, classifier=digits.slot(2), examples=folder(g, digits, "judged"), repeats=repeats
        )
        return g, node, [g.PreviewAny(source=node.slot(slot)).node for slot in (1, 4)]

    def said():
        g, node, nodes = judged(1)
        result = server.run(g.prompt)
        assert any(kind == "executing" and data["node"] == node.node for kind, data in result.messages), "cached"
        return [result.outputs[node]["text"] for node in nodes]

    before = said()
    g, node, _ = judged(100)
    cancelled = []

    def watch(kind, data):
        bar = data["nodes"].get(node.node) if kind == "progress_state" else None
        if bar and bar["state"] == "running" and 2 <= bar["value"] < bar["max"] - 2 and not cancelled:
            cancelled.append(bar["value"])
            server.interrupt()

    with pytest.raises(PromptInterrupted, match="EvaluateNoisyClassifier"):
        server.run(g.prompt, watch=watch)
    assert said() == before


def test_cancelled_encoding_goes_on_where_it_was(server):
    place, count = server.base / "input" / "many", 100
    cache = server.base / "user" / "guidance_kit" / "latents"
    place.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(draw.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)).save(place / f"{i}.png")
    shutil.rmtree(cache, ignore_errors=True)

    def encoded():
        g = Graph()
        digits = g.GuidanceKitLoadDigitsDemo()
        examples = folder(g, digits, "many", "many")
        return g, examples, g.ProbeRead(latent=g.ProbeExamples(examples=examples), nonce=fresh())

    g, examples, _ = encoded()
    encoding = []

    def watch(kind, data):
        bar = data["nodes"].get(examples.node) if kind == "progress_state" else None
        if bar and not encoding and len(list(cache.rglob("*.safetensors"))) >= 10:
            encoding.append(bar["value"])
            server.interrupt()

    with pytest.raises(PromptInterrupted, match="LabelledFolder"):
        server.run(g.prompt, watch=watch)
    kept = {file: file.stat().st_mtime_ns for file in cache.rglob("*") if file.is_file()}
    assert 10 <= len(kept) < count
    assert all(file.suffix == ".safetensors" for file in kept)

    g, _, node = encoded()
    resumed = read(server.run(g.prompt), node).latent
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, "encoded anew"
    shutil.rmtree(cache)
    (place / "0.png").touch()
    g, _, node = encoded()
    assert np.array_equal(read(server.run(g.prompt), node).latent, resumed)
    assert len(resumed) == count


def test_cancelled_saving_leaves_a_whole_file(server):
    """Whether Cancel comes before, while or after the file is written: what is there is whole."""
    file = server.base / "models" / "noisy_classifiers" / "often.safetensors"

    def saved():
        g = Graph()
        g.GuidanceKitSaveNoisyClassifier(
            classifier=g.GuidanceKitLoadDigitsDemo().slot(2),
            name="often",
            replace=True,
            licence=str(fresh()),
            author="",
        )
        return g

    server.run(saved().prompt)
    want = NoisyClassifier.load(file).network.state_dict()
    for _ in range(5):

        def watch(kind, data):
            if kind == "executing" and data["node"] is not None:
                server.interrupt()

        with contextlib.suppress(PromptInterrupted):
            server.run(saved().prompt, watch=watch)
        found = NoisyClassifier.load(file).network.state_dict()
        assert all(bool((found[key] == want[key]).all()) for key in want)
        assert [each.name for each in file.parent.glob("often*")] == [file.name]
    server.run(saved().prompt)


def test_cancelled_training_keeps_no_weights_on_the_model(server):
    """A sampling beside a cancelled training has the bits of one before it."""

    def digits_sampled(g, digits):
        null = g.GuidanceKitNullConditionEncoder(model=digits, kind={"kind": "class null label"})
        model = classifier_guidance(g, digits, digits.slot(2), "seven", 2.0)
        latent = g.EmptyLatentImage(width=SIZE, height=SIZE, batch_size=2)
        return g.ProbeRead(latent=ksampler(g, model, positive=null, negative=null, latent=latent), nonce=fresh())

    g = Graph()
    node = digits_sampled(g, g.GuidanceKitLoadDigitsDemo())
    before = read(server.run(g.prompt), node).latent
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    trained = train(g, digits, folder(g, digits), "stopped", steps=2000, evaluate_every=1000)
    g.PreviewAny(source=trained.slot(4))
    with pytest.raises(PromptInterrupted):
        server.run(g.prompt, watch=presses_cancel(server, trained, 2000, 5))
    g = Graph()
    node = digits_sampled(g, g.GuidanceKitLoadDigitsDemo())
    assert np.array_equal(read(server.run(g.prompt), node).latent, before)
