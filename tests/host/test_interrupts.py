"""Cancel at any moment: the server goes on, and the same prompt then gives the bits of one that was never stopped."""

import contextlib
import shutil

import numpy as np
import pytest
from graph import (
    SIZE,
    Graph,
    all_in_one,
    classifier_guidance,
    custom_sampler,
    emptied,
    executed,
    folder,
    fresh,
    ksampler,
    read,
    schedule,
    stacked,
    train,
)
from PIL import Image

from devtools.server import PromptFailed, PromptInterrupted
from guidance_core.classifier.noisy import NoisyClassifier
from guidance_core.demo.pictures import FOLDER

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


STEPS, PICTURES = 2, 6


def swept(interrupt_at=0, **changes):
    """A sweep of six pictures whose model presses Cancel at one of its calls, once; the node, and one that reads it.

    Changes are inputs of the node, or functions of the graph that make them.
    """
    g = Graph()
    inputs = {
        "model": g.ProbeModel(kind="eps", seed=0, nonce=fresh(), interrupt_at=interrupt_at),
        "classifier": g.ProbeClassifier(channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=fresh(), most=0),
        "positive": g.ProbeCondition(seed=1),
        "negative": g.ProbeCondition(seed=2),
        "latent_image": g.ProbeLatent(batch=2, channels=4, frames=0, masked=False, nonce=fresh()),
        "vae": g.ProbeParts(channels=4).slot(1),
        "columns": "cfg scale",
        "columns.values": "1, 4, 7",
        "rows": "classifier scale",
        "rows.values": "0, 3",
        "cfg": 3.0,
        "classifier_scale": 2.0,
        "target": "cat, -dog",
        "seed": 7,
        "steps": STEPS,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
    }
    node = g.GuidanceKitGuidanceSweep(**inputs)
    reading = g.ProbeRead(latent=node.slot(2), model=inputs["model"], nonce=fresh())
    return changed(g, node, reading, changes), node, reading


def changed(g, node, reading, changes):
    """The graph with other inputs of the sweep."""
    made = {name: value(g) if callable(value) else value for name, value in changes.items()}
    sweep = g.prompt[node.node]["inputs"]
    sweep |= made
    g.prompt[reading.node]["inputs"] |= {"model": sweep["model"], "nonce": fresh()}
    return g


def run_sweep(server, graph):
    """What a sweep gave: its latents and the model's calls, its sheet, and the texts it showed."""
    g, node, reading = graph
    result = server.run(g.prompt)
    (sheet,) = result.images(node.node)
    return read(result, reading), np.asarray(sheet), result.texts[node.node]


SCHEDULES = {
    "columns": "cfg schedule",
    "columns.schedules.schedule0": lambda g: schedule(g, "interval", start=0.0, end=0.5),
    "columns.schedules.schedule1": lambda g: schedule(g, "cosine", low=0.0),
    "columns.schedules.schedule2": lambda g: schedule(g),
}


@pytest.mark.parametrize(
    ("at", "there", "changes"),
    [(2, 0, {}), (3, 1, {}), (6, 2, SCHEDULES), (12, 5, {})],
    ids=["first", "second", "third of schedules", "last"],
)
def test_a_cancelled_sweep_goes_on_where_it_was(server, at, there, changes):
    """Only the rest is sampled; pictures, latents, sheet and the count of passes are those of one never stopped."""
    whole, sheet, texts = run_sweep(server, swept(**changes))
    assert len(whole.calls) == PICTURES * STEPS
    graph = swept(interrupt_at=at, **changes)
    with pytest.raises(PromptInterrupted):
        server.run(graph[0].prompt)
    again, same_sheet, said = run_sweep(server, graph)
    assert again.calls == whole.calls[:at] + whole.calls[there * STEPS :]
    assert np.array_equal(again.latent, whole.latent)
    assert np.array_equal(same_sheet, sheet)
    resumed = [f"{there} of {PICTURES} pictures were there from the run that was stopped."] if there else []
    assert said[-1].splitlines() == [texts[-1], *resumed]
    assert {text.partition(":")[0] for text in said[:-1]} == {f"Picture {i + 1} of 6" for i in range(there, PICTURES)}


OTHERS = {
    "model": lambda g: g.ProbeModel(kind="eps", seed=0, nonce=fresh()),
    "classifier": lambda g: g.ProbeClassifier(
        channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=fresh(), most=0, gain=10.0
    ),
    "positive": lambda g: g.ProbeCondition(seed=3),
    "negative": lambda g: g.ProbeCondition(seed=3),
    "latent_image": lambda g: g.ProbeLatent(batch=2, channels=4, frames=0, masked=True),
    "columns.values": "1, 5, 7",
    "rows.values": "0, 3.5",
    "classifier_scale": 1.0,
    "target": "cat",
    "seed": 8,
    "steps": STEPS + 1,
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_cancelled_sweep_of_other_inputs_begins_anew(server, name):
    change = {name: OTHERS[name]}
    g, node, reading = swept(interrupt_at=3)
    with pytest.raises(PromptInterrupted):
        server.run(g.prompt)
    anew, _, said = run_sweep(server, (changed(g, node, reading, change), node, reading))
    cancelled = 0 if name == "model" else 3
    assert len(anew.calls) == cancelled + PICTURES * change.get("steps", STEPS)
    assert "were there" not in said[-1]


@pytest.mark.parametrize("name", ["seed", "model"])
def test_another_sweep_lets_go_of_what_a_cancelled_one_kept(server, name):
    g, node, reading = swept(interrupt_at=3)
    with pytest.raises(PromptInterrupted):
        server.run(g.prompt)
    own = g.prompt[node.node]["inputs"][name]
    run_sweep(server, (changed(g, node, reading, {name: OTHERS[name]}), node, reading))
    back, _, said = run_sweep(server, (changed(g, node, reading, {name: own}), node, reading))
    assert len(back.calls) == PICTURES * STEPS + (3 if name == "model" else 0)
    assert "were there" not in said[-1]


def test_a_sweep_that_fails_keeps_its_pictures_until_it_ends(server):
    """Here the VAE is of other latents. With the right one nothing is sampled again; the next sweep is a new one."""
    whole, sheet, _ = run_sweep(server, swept())
    g, node, reading = swept()
    right = g.prompt[node.node]["inputs"]["vae"]
    with pytest.raises(PromptFailed, match="expand"):
        server.run(changed(g, node, reading, {"vae": lambda g: g.ProbeVideoVAE()}).prompt)
    ended, same_sheet, said = run_sweep(server, (changed(g, node, reading, {"vae": right}), node, reading))
    assert ended.calls == whole.calls
    assert np.array_equal(same_sheet, sheet)
    assert said[-1].endswith("\n6 of 6 pictures were there from the run that was stopped.")
    other = g.ProbeParts(channels=5).slot(1)
    anew, _, said = run_sweep(server, (changed(g, node, reading, {"vae": other}), node, reading))
    assert anew.calls == whole.calls
    assert "were there" not in said[-1]


def test_what_a_cancelled_sweep_kept_goes_with_its_model(server):
    def kept():
        g = Graph()
        node = g.ProbeKept(nonce=fresh())
        return int(server.run(g.prompt).outputs[node.node]["text"][0])

    with pytest.raises(PromptInterrupted):
        server.run(swept(interrupt_at=3)[0].prompt)
    assert kept() == 1
    emptied(server, outputs=True)
    assert kept() == 0


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


@pytest.mark.parametrize("noticed", [True, False])
def test_cancelled_saving_leaves_a_whole_file(server, noticed):
    """Cancel with half of it written: the file is the old one where the run stops there, and the new one else."""
    folder = server.base / "models" / "noisy_classifiers"
    file = folder / "often.safetensors"

    def saved(licence, name="often"):
        g = Graph()
        made = {
            "old": lambda: g.GuidanceKitLoadDigitsDemo().slot(2),
            "new": lambda: g.ProbeClassifier(
                channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=fresh(), most=0
            ),
        }
        g.GuidanceKitSaveNoisyClassifier(
            classifier=made[licence](), name=name, replace=True, licence=licence, author=""
        )
        return g.prompt

    def contents(file):
        classifier = NoisyClassifier.load(file)
        return classifier.record.licence, {n: t.numpy().tobytes() for n, t in classifier.network.state_dict().items()}

    server.run(saved("new", "beside"))
    server.run(saved("old"))
    want = {"old": contents(file), "new": contents(file.with_name("beside.safetensors"))}
    assert all(want[licence][0] == licence for licence in want) and want["old"][1] != want["new"][1]
    g = Graph()
    g.ProbeCancel(folder=str(folder), noticed=noticed, nonce=fresh())
    server.run(g.prompt)
    with pytest.raises(PromptInterrupted) if noticed else contextlib.nullcontext():
        server.run(saved("new"))
    assert contents(file) == want["old" if noticed else "new"]
    assert [each.name for each in folder.glob("often*")] == [file.name]
    server.run(saved("new"))
    assert contents(file) == want["new"]


def test_cancelled_training_keeps_no_weights_on_the_model(server):
    """A sampling beside a cancelled training has the bits of one before it."""

    def digits_sampled(g, digits):
        null = g.GuidanceKitNullConditionEncoder(model=digits, kind={"kind": "class null label"})
        model = classifier_guidance(g, digits, digits.slot(2), "seven", 2.0)
        latent = g.ProbeLatent(batch=2, channels=1, frames=0, masked=False, nonce=fresh())  # not to be taken as known
        sampled = ksampler(g, model, positive=null, negative=null, latent=latent)
        node = g.ProbeRead(latent=sampled, nonce=fresh())
        result = server.run(g.prompt)
        assert sampled.node in executed(result)
        return read(result, node).latent

    g = Graph()
    before = digits_sampled(g, g.GuidanceKitLoadDigitsDemo())
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    trained = train(g, digits, folder(g, digits), "stopped", steps=2000, evaluate_every=1000)
    g.PreviewAny(source=trained.slot(4))
    with pytest.raises(PromptInterrupted):
        server.run(g.prompt, watch=presses_cancel(server, trained, 2000, 5))
    g = Graph()
    assert np.array_equal(digits_sampled(g, g.GuidanceKitLoadDigitsDemo()), before)
