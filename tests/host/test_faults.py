"""Runs at the edge of what users ask for: few steps or none, parts of runs, sizes, the queue, the cache, bad names."""

import copy
import os
import shutil
import time

import numpy as np
import pytest
from graph import (
    Graph,
    all_in_one,
    cfg_combine,
    classifier_guidance,
    emptied,
    executed,
    folder,
    fresh,
    guided_digits,
    ksampler,
    read,
    schedule,
    stacked,
    train,
)
from PIL import Image

from devtools.server import PromptFailed, PromptRejected


def objects(g, kind="eps", **classifier):
    """A probe model and a classifier, made anew."""
    made = {"channels": 4, "latent_space": "", "nan_below_log_snr": -1000.0, **classifier}
    return g.ProbeModel(kind=kind, seed=0, nonce=fresh()), g.ProbeClassifier(nonce=fresh(), **made)


def readings(server, g, *latents):
    nodes = [g.ProbeRead(latent=latent, nonce=fresh()) for latent in latents]
    result = server.run(g.prompt)
    return [read(result, node).latent for node in nodes], result


def advanced(g, model, latent, first, last, noise, leftover):
    """A part of a run of six steps."""
    return g.KSamplerAdvanced(
        model=model,
        add_noise=noise,
        noise_seed=7,
        steps=6,
        cfg=1.0,
        sampler_name="euler",
        scheduler="normal",
        positive=g.ProbeCondition(seed=1),
        negative=g.ProbeCondition(seed=2),
        latent_image=latent,
        start_at_step=first,
        end_at_step=last,
        return_with_leftover_noise=leftover,
    )


def empty(g, batch=1, **more):
    return g.ProbeLatent(**{"batch": batch, "channels": 4, "frames": 0, "masked": False} | more)


# Few steps, no steps, parts of runs


@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_one_step(server, kind):
    """Denoised once, each kind of guidance is finite and not nothing; the classifier is off at a flow's pure noise."""
    g = Graph()
    model, classifier = objects(g, kind)
    cfg = cfg_combine(g, model, 4.0)
    chains = (model, cfg, classifier_guidance(g, cfg, classifier, "cat"), stacked(g, model, classifier))
    found, _ = readings(server, g, *(ksampler(g, each, steps=1) for each in chains))
    assert all(np.isfinite(each).all() for each in found)
    plain, combined, classified, method = found
    assert np.abs(combined - plain).max() > 1e-3 * np.abs(plain).max()
    assert np.abs(method - plain).max() > 1e-3 * np.abs(plain).max()
    if kind == "flow":
        assert np.array_equal(classified, combined)
    else:
        assert np.abs(classified - combined).max() > 1e-3 * np.abs(combined).max()


def test_no_steps_at_all(server):
    """Denoise 0 gives the latent back, as ComfyUI does, and draws no run; not even one that was there before."""

    def trace(denoise, nonce):
        g = Graph()
        model = g.ProbeModel(kind="eps", seed=0, nonce=nonce)
        classifier = g.ProbeClassifier(channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=nonce)
        sampled = all_in_one(g, cfg_combine(g, model, 3.0), classifier)
        g.prompt[sampled.node]["inputs"] |= {"denoise": denoise, "latent_image": empty(g, masked=True)}
        (latent, given), result = readings(server, g, sampled, empty(g, masked=True))
        (picture,) = result.images(sampled.node)
        return np.array_equal(latent, given), np.asarray(picture)

    nonce = fresh()
    sampled, drawn = trace(1.0, nonce)
    kept, after = trace(0.0, nonce)
    assert kept and not sampled
    np.testing.assert_array_equal(after, trace(0.0, fresh())[1])
    assert not np.array_equal(after, drawn)

    g = Graph()
    model, classifier = objects(g)
    patched = stacked(g, model, classifier)
    part = advanced(g, patched, empty(g, masked=True), 6, 6, "disable", "disable")
    (latent, given), _ = readings(server, g, part, empty(g, masked=True))
    assert np.array_equal(latent, given)


@pytest.mark.parametrize("denoise", [0.2, 0.7])
def test_a_part_of_the_noise(server, denoise):
    """Denoise below 1: a constant scale is ComfyUI's own, and a schedule's first step is the run's first step."""

    def sampled(g, model, cfg=1.0):
        node = ksampler(g, model, cfg, latent=empty(g, masked=True))
        g.prompt[node.node]["inputs"]["denoise"] = denoise
        return node

    g = Graph()
    model, classifier = objects(g)
    first = schedule(g, "interval", start=0.0, end=0.0)
    (ours, core, windowed, plain, guided), _ = readings(
        server,
        g,
        sampled(g, cfg_combine(g, model, 5.5)),
        sampled(g, model, 5.5),
        sampled(g, cfg_combine(g, model, 5.5, schedule=first)),
        sampled(g, model),
        sampled(g, classifier_guidance(g, model, classifier, "cat", 5.0, first)),
    )
    assert np.array_equal(ours, core)
    assert not np.array_equal(windowed, plain) and not np.array_equal(windowed, ours)
    assert np.isfinite(guided).all() and not np.array_equal(guided, plain)


def test_a_run_in_two_parts_is_the_whole(server):
    """KSamplerAdvanced to step 3 and on from there: guidance without a memory or a schedule knows no difference."""
    g = Graph()
    model, classifier = objects(g)
    patched = classifier_guidance(g, cfg_combine(g, model, 4.0, "rescale", rescale=0.7), classifier, "cat", 5.0)
    whole = advanced(g, patched, empty(g), 0, 6, "enable", "disable")
    half = advanced(g, patched, empty(g), 0, 3, "enable", "enable")
    rest = advanced(g, patched, half, 3, 6, "disable", "disable")
    (whole, half, rest), _ = readings(server, g, whole, half, rest)
    np.testing.assert_allclose(rest, whole, atol=1e-5 * np.abs(whole).max())
    assert np.abs(half - whole).max() > 0.1


def test_every_sampler_of_the_host(server):
    """Each takes three guided steps to finite numbers that guidance has changed; second-order ones between levels."""
    spec = server.object_info()["KSampler"]["input"]["required"]["sampler_name"]
    names = spec[0] if isinstance(spec[0], list) else spec[1]["options"]
    assert len(names) > 30
    g = Graph()
    model, classifier = g.ProbeFamily(family="SD15", dtype="fp32", nonce=fresh()), objects(g)[1]
    patched = stacked(g, model, classifier)
    latents = [ksampler(g, which, steps=3, sampler=name) for name in names for which in (patched, model)]
    found, _ = readings(server, g, *latents)
    for name, guided, plain in zip(names, found[::2], found[1::2], strict=True):
        assert np.isfinite(guided).all(), name
        assert np.abs(guided - plain).max() > 1e-5 * np.abs(plain).max(), name


def test_a_gradient_of_zero_changes_nothing(server):
    """A classifier that knows nothing leaves the bits as they are, with a cap and the entropy-aware factor too."""
    g = Graph()
    model, classifier = objects(g, gain=0.0)
    options = {"entropy_aware": True, "max_shift": 0.5}
    guided = classifier_guidance(g, model, classifier, "cat, -dog", 100.0, **options)
    (guided, plain), _ = readings(server, g, ksampler(g, guided), ksampler(g, model))
    assert np.array_equal(guided, plain)


def test_a_model_that_gives_nan_is_named_and_not_the_classifier(server):
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh(), interrupt_at=0, nan_at=3)
    g.ProbeRead(latent=ksampler(g, classifier_guidance(g, model, objects(g)[1], "cat")), nonce=fresh())
    with pytest.raises(PromptFailed, match="Classifier Guidance: what is sampled is not a finite number.*step 4 of 6"):
        server.run(g.prompt)


def test_a_model_that_gives_nan_under_cfg_is_as_in_the_host(server):
    """CFG Combine adds no check of its own: what is not finite without our node is not finite with it."""

    def latent(ours):
        g = Graph()
        model = g.ProbeModel(kind="eps", seed=0, nonce=fresh(), interrupt_at=0, nan_at=3)
        sampled = ksampler(g, cfg_combine(g, model, 4.0)) if ours else ksampler(g, model, 4.0)
        return readings(server, g, sampled)[0][0]

    ours, host = latent(True), latent(False)
    assert np.isnan(host).any()
    np.testing.assert_array_equal(ours, host)


def test_sizes_one_after_the_other_on_one_model(server):
    """Another size and batch between two runs leaves no trace: neither in the model nor in a method's memory."""
    g = Graph()
    model, classifier = objects(g)
    patched = stacked(g, model, classifier)
    shapes = ["1,4,16,16", "3,4,24,10", "2,4,8,32", "1,4,16,16"]
    latents = [g.ProbeLatents(shape=shape, level=0.0, seed=i) for i, shape in enumerate(shapes[:3])]
    found, _ = readings(server, g, *(ksampler(g, patched, latent=latents[i]) for i in (0, 1, 2)))
    assert [list(each.shape) for each in found] == [[1, 4, 16, 16], [3, 4, 24, 10], [2, 4, 8, 32]]
    assert all(np.isfinite(each).all() for each in found)
    g.prompt[latents[0].node]["inputs"]["level"] = (
        1e-9  # another latent by name, so that nothing is taken from the cache
    )
    again, result = readings(server, g, ksampler(g, patched, latent=latents[0]))
    cached = {each for kind, data in result.messages if kind == "execution_cached" for each in data["nodes"]}
    assert patched.node in cached
    assert np.array_equal(again[0], found[0])


# The queue and the cache


def digits_prompt(seed, first_id=1):
    """A prompt of ours whose nodes ComfyUI may all keep: its id of the node that shows the trace."""
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
    seven = g.GuidanceKitClassCondition(model=digits, label="seven")
    sampled = guided_digits(g, digits, null, seven, count=2, classifier_scale=2.0, seed=seed, steps=5, cfg=3.0)
    picture = g.PreviewImage(images=g.VAEDecode(samples=sampled, vae=digits.slot(1)))
    if first_id != 1:
        g.prompt = with_ids(g.prompt, first_id)
    return g.prompt, str(int(picture.node) + first_id - 1)


def with_ids(prompt, first):
    """The same prompt with other node ids."""
    ids = {node: str(int(node) + first - 1) for node in prompt}
    renamed = {}
    for node, entry in prompt.items():
        entry = copy.deepcopy(entry)
        for name, value in entry["inputs"].items():
            if isinstance(value, list):
                entry["inputs"][name] = [ids[value[0]], value[1]]
        renamed[ids[node]] = entry
    return renamed


def pixels(result, node):
    return [np.asarray(image) for image in result.images(node)]


def test_a_second_run_of_the_same_prompt_executes_nothing(server):
    prompt, node = digits_prompt(seed=fresh())
    first, second = server.run(prompt), server.run(prompt)
    assert executed(first) and not executed(second)
    np.testing.assert_array_equal(pixels(first, node), pixels(second, node))
    assert np.asarray(pixels(first, node)).std() > 10


def test_nodes_deleted_and_added_again_give_the_same_picture(server):
    seed = fresh()
    (before, node), (after, other) = digits_prompt(seed), digits_prompt(seed, first_id=500)
    first = server.run(before)
    emptied(server, outputs=True)  # or ComfyUI knows the new nodes for the old
    second = server.run(after)
    assert executed(second) == set(after)
    np.testing.assert_array_equal(pixels(first, node), pixels(second, other))


def test_two_prompts_queued_at_once_are_as_if_one_by_one(server):
    prompts = [digits_prompt(seed=fresh()) for _ in range(2)]
    queued = [server._queue({"prompt": prompt}) for prompt, _ in prompts]
    together = [server.wait(prompt_id) for prompt_id in queued]
    emptied(server, outputs=True)
    for outputs, (prompt, node) in zip(together, prompts, strict=True):
        alone = server.run(prompt)
        assert any(prompt[each]["class_type"] == "GuidanceKitClassifierGuidanceSampler" for each in executed(alone))
        there = [np.asarray(server.image(place)) for place in outputs[node]["images"]]
        np.testing.assert_array_equal(there, pixels(alone, node))


# Choices that are gone, and names that lead elsewhere


ESCAPES = [
    "../outside",
    "a/../../outside",
    "/tmp/outside",
    "..\\outside",
    "C:\\outside",
    "a//b",
    ".hidden",
    "nul\0l",
    "~",
]


def refused(server, build):
    """What a graph of one of our nodes is refused with."""
    g = Graph()
    g.PreviewAny(source=build(g, g.GuidanceKitLoadDigitsDemo()))
    with pytest.raises((PromptFailed, PromptRejected)) as caught:
        server.run(g.prompt)
    return caught.value.exception_message if isinstance(caught.value, PromptFailed) else str(caught.value)


@pytest.mark.parametrize(
    ("title", "name", "build"),
    [
        ("CFG Combine", "method", lambda g, d: cfg_combine(g, d, 3.0, "gone")),
        ("Scale Schedule", "shape", lambda g, d: schedule(g, "gone")),
        ("Scale Schedule", "axis", lambda g, d: schedule(g, axis="gone")),
        (
            "Null-Condition Encoder",
            "kind",
            lambda g, d: g.GuidanceKitNullConditionEncoder(kind={"kind": "gone"}, model=d),
        ),
        (
            "Guidance Target",
            "classifier",
            lambda g, d: g.GuidanceKitGuidanceTarget(
                classifier={"classifier": "gone.safetensors", "label": "cat"}, away=False, weight=1.0
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_choices_that_are_gone(server, title, name, build):
    """A deleted file of a classifier, a method of another version: ComfyUI leaves such a choice out of the call."""
    said = refused(server, build)
    assert said.startswith(f"{title}: {name} is set to something that is not among its choices")


@pytest.mark.parametrize(("class_type", "name"), [("LoadNoisyClassifier", "file"), ("LabelledFolder", "folder")])
def test_a_missing_choice_is_said_to_be_missing(server, class_type, name):
    def build(g, d):
        more = {"vae": d.slot(1), "label": "", "width": 64, "height": 64} if name == "folder" else {}
        return getattr(g, f"GuidanceKit{class_type}")(**more)

    assert f"Required input is missing: {name}" in refused(server, build)


@pytest.fixture
def files(server):
    """The files around the server's folder of classifiers; a test must not change them."""

    def listed():
        return sorted(str(file) for file in server.base.rglob("*outside*"))

    before = listed()
    yield
    assert listed() == before


@pytest.mark.parametrize("name", ESCAPES)
def test_names_of_files_lead_nowhere_else(server, files, name):
    g = Graph()
    g.GuidanceKitSaveNoisyClassifier(
        classifier=g.GuidanceKitLoadDigitsDemo().slot(2), name=name, replace=True, licence="", author=""
    )
    with pytest.raises(PromptRejected, match="Save Noisy Classifier: '.*' cannot be the name of a classifier"):
        server.run(g.prompt)
    assert "Train Noisy Classifier: '" in refused(server, lambda g, d: train(g, d, folder(g, d), name, steps=1))


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "..\\outside.safetensors", {"__value__": ["no", "name"]}], ids=str
)
def test_files_elsewhere_are_not_read(server, name):
    (server.base / "models" / "outside.safetensors").write_text("not for you")

    said = refused(server, lambda g, d: g.GuidanceKitLoadNoisyClassifier(file=name))
    assert "there is no file" in said and "Load Noisy Classifier" in said
    said = refused(server, lambda g, d: folder(g, d, name))
    assert "Labelled Folder: there is no folder" in said


@pytest.fixture
def listings(server):
    """A function that says how often the server has listed its folders since it was last asked."""

    def count():
        g = Graph()
        node = g.ProbeListings(nonce=fresh())
        return int(server.run(g.prompt).outputs[node.node]["text"][0])

    count()
    return count


MANY = 2000


def test_folders_are_listed_anew_only_where_one_has_changed(server, listings):
    place = server.base / "input" / f"many {fresh()}"
    place.mkdir()
    try:
        for i in range(MANY):
            (place / str(i)).mkdir()

        def examples(seed):
            g = Graph()
            digits = g.GuidanceKitLoadDigitsDemo()
            g.ProbeRead(latent=g.ProbeExamples(examples=folder(g, digits)), nonce=seed)
            return server.run(g.prompt)

        for change in (True, False, False, True, False):
            if change:
                (place / "0" / f"new {fresh()}").mkdir()
            time.sleep(1.1)  # for so long the list may be an old one
            examples(fresh())
            assert listings() == change
        menu = str(server.object_info()["GuidanceKitLabelledFolder"]["input"]["required"]["folder"])
        assert all(f"'{found.relative_to(place.parent).as_posix()}'" in menu for found in place.rglob("*"))
    finally:
        shutil.rmtree(place)


def test_folders_that_come_and_go_are_seen_at_once(server):
    """The list of folders is kept between prompts; a folder made a moment ago, at any depth, is in it."""

    def examples(name):
        g = Graph()
        g.PreviewAny(source=folder(g, g.GuidanceKitLoadDigitsDemo(), name, "mine"))
        return server.run(g.prompt)

    top = f"late {fresh()}"
    for name in (top, f"{top}/inner", f"{top}/inner/most"):
        with pytest.raises(PromptRejected, match="there is no folder"):
            examples(name)
        place = server.base / "input" / name
        place.mkdir()
        Image.new("RGB", (40, 30), (200, 10, 90)).save(place / "a.png")
        examples(name)
    shutil.rmtree(server.base / "input" / top / "inner")
    with pytest.raises(PromptRejected, match="there is no folder"):
        examples(f"{top}/inner/most")
    time.sleep(1.1)  # for so long the menu may be an old one
    menu = server.object_info()["GuidanceKitLabelledFolder"]["input"]["required"]["folder"]
    assert f"'{top}'" in str(menu) and f"{top}/inner" not in str(menu)


def _closed(place):
    """A folder that may be listed but not entered, with another inside."""
    (place / "inner").mkdir(parents=True)
    place.chmod(0o444)


def _deep(place):
    """Folders inside each other whose path is longer than the system takes in one piece."""
    place.mkdir()
    inside = os.open(place, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=inside)
        outside, inside = inside, os.open("x" * 250, os.O_RDONLY, dir_fd=inside)
        os.close(outside)
    os.close(inside)


@pytest.mark.skipif(os.name == "nt", reason="folders are closed in another way there")
@pytest.mark.parametrize("make", [_closed, _deep])
def test_folders_that_the_server_cannot_look_into_hide_no_node(server, make):
    root, number = server.base / "input", fresh()
    place, others = root / f"m foreign {number}", [f"a {number}", f"a {number}/inner", f"z {number}", f"z {number}/x/y"]
    for name in others:
        (root / name).mkdir(parents=True)
    make(place)
    try:
        if make is _closed and os.access(place, os.X_OK):
            pytest.skip("to root no folder is closed")
        time.sleep(1.1)  # for so long the menu may be an old one
        menu = str(server.object_info()["GuidanceKitLabelledFolder"]["input"]["required"]["folder"])
        for name in (place.name, "digits demo", *others):
            assert f"'{name}'" in menu
    finally:
        place.chmod(0o755)
        for name in (place.name, f"a {number}", f"z {number}"):
            shutil.rmtree(root / name)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_out_of_the_folder_is_not_written_through(server, tmp_path):
    place = server.base / "models" / "noisy_classifiers"
    place.mkdir(parents=True, exist_ok=True)
    (place / "away").symlink_to(tmp_path, target_is_directory=True)
    try:
        g = Graph()
        g.GuidanceKitSaveNoisyClassifier(
            classifier=g.GuidanceKitLoadDigitsDemo().slot(2), name="away/x", replace=True, licence="", author=""
        )
        with pytest.raises(PromptRejected, match="'away/x' leads out of models/noisy_classifiers"):
            server.run(g.prompt)
        assert not list(tmp_path.iterdir())
    finally:
        (place / "away").unlink()
