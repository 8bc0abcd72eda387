"""Any values in our nodes' widgets: refused in a sentence that names the node, or run; and the server goes on."""

import math

import numpy as np
import pytest
import torch
from graph import (
    SIZE,
    Graph,
    cfg_combine,
    classifier_guidance,
    executed,
    folder,
    fresh,
    guided_digits,
    history_guidance,
    ksampler,
    read,
    schedule,
    self_guidance,
    train,
    vary_condition,
    weakened,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from devtools.server import PromptFailed, PromptRejected
from devtools.tiny_classifier import write_classifier
from guidance_core.null import NullCondition

HUGE = 100_000


def sampled(g, model, null):
    latent = g.EmptyLatentImage(width=SIZE, height=SIZE, batch_size=1)
    return g.ProbeRead(latent=ksampler(g, model, latent=latent, positive=null, negative=null, steps=2), nonce=0)


def shown(g, node):
    return g.PreviewAny(source=node)


def judged(g, d, node):
    return g.GuidanceKitEvaluateNoisyClassifier(model=d, classifier=d.slot(2), examples=node, repeats=1)


def vision(g):
    return g.ProbeVision(kind="clip", nonce=0)


def picture(g):
    return g.EmptyImage(width=32, height=32, batch_size=1, color=0)


def sweep(g, d, n, columns, rows):
    """A sweep of two pictures in one step each: whatever one value is, it does not take long."""
    return g.GuidanceKitGuidanceSweep(
        model=d,
        positive=n,
        negative=n,
        latent_image=g.EmptyLatentImage(width=SIZE, height=SIZE, batch_size=1),
        vae=d.slot(1),
        columns=columns,
        rows=rows,
        seed=0,
        steps=1,
        cfg=3.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
        target="seven",
        classifier_scale=1.0,
        classifier=d.slot(2),
        judge=d.slot(2),
    )


# (the node, given the digits and a null condition; what makes it run)
NODES = {
    "schedule": (
        lambda g, d, n: schedule(g, "keyframes", "percent", points="0: 1, 1: 0", interpolation="linear", high=1.0),
        lambda g, d, n, node: sampled(g, cfg_combine(g, d, 3.0, schedule=node), n),
    ),
    "cfg": (
        lambda g, d, n: cfg_combine(g, d, 3.0, "apg", eta=0.3, norm_threshold=5.0, momentum=-0.5),
        lambda g, d, n, node: sampled(g, node, n),
    ),
    "regional": (
        lambda g, d, n: cfg_combine(g, d, 3.0, "regional", outside=0.3, channels=""),
        lambda g, d, n, node: sampled(g, node, n),
    ),
    "null": (
        lambda g, d, n: g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=d),
        lambda g, d, n, node: sampled(g, d, node),
    ),
    "null zeros": (
        lambda g, d, n: g.GuidanceKitNullConditionEncoder(kind={"kind": "zeros"}, like=n),
        lambda g, d, n, node: sampled(g, d, node),
    ),
    "null learned": (
        lambda g, d, n: g.GuidanceKitNullConditionEncoder(kind={"kind": "learned", "file": "fuzzed.safetensors"}),
        lambda g, d, n, node: shown(g, node),
    ),
    "null empty": (
        lambda g, d, n: g.GuidanceKitNullConditionEncoder(kind={"kind": "empty prompt"}, clip=g.ProbeParts(channels=1)),
        lambda g, d, n, node: shown(g, node),
    ),
    "null none": (
        lambda g, d, n: g.GuidanceKitNullConditionEncoder(kind={"kind": "none"}),
        lambda g, d, n, node: shown(g, node),
    ),
    "feedback": (
        lambda g, d, n: cfg_combine(
            g, d, 3.0, "feedback", classifier=d.slot(2), target="seven", mixing=0.9, undecided=0.5, decided=0.35
        ),
        lambda g, d, n, node: sampled(g, node, n),
    ),
    "guidance": (
        lambda g, d, n: classifier_guidance(g, d, d.slot(2), "seven, -three"),
        lambda g, d, n, node: sampled(g, node, n),
    ),
    "sampler": (guided_digits, lambda g, d, n, node: g.ProbeRead(latent=node, nonce=0)),
    "condition": (
        lambda g, d, n: g.GuidanceKitClassCondition(model=d, label="seven"),
        lambda g, d, n, node: sampled(g, d, node),
    ),
    "load": (
        lambda g, d, n: g.GuidanceKitLoadNoisyClassifier(file="fuzzed.safetensors"),
        lambda g, d, n, node: sampled(g, classifier_guidance(g, d, node, "seven"), n),
    ),
    "image classifier": (
        lambda g, d, n: g.GuidanceKitLoadImageClassifier(folder="fuzzed", vae=d.slot(1)),
        lambda g, d, n, node: sampled(g, classifier_guidance(g, d, node, "dog"), n),
    ),
    "aesthetic head": (
        lambda g, d, n: g.GuidanceKitLoadAestheticHead(file="fuzzed.safetensors", clip_vision=vision(g), vae=d.slot(1)),
        lambda g, d, n, node: sampled(g, classifier_guidance(g, d, node, "score"), n),
    ),
    "references": (
        lambda g, d, n: g.GuidanceKitImageReferences(clip_vision=vision(g), images=picture(g), vae=d.slot(1)),
        lambda g, d, n, node: sampled(g, classifier_guidance(g, d, node, "reference"), n),
    ),
    "text references": (
        lambda g, d, n: g.GuidanceKitTextReferences(
            clip_vision=vision(g), clip=g.ProbeTextTower(kind="whole", width=24, nonce=0), text="a, -b", vae=d.slot(1)
        ),
        lambda g, d, n, node: sampled(g, classifier_guidance(g, d, node, node.slot(1)), n),
    ),
    "report": (
        lambda g, d, n: g.GuidanceKitGuidanceReport(model=d, steps=4, scheduler="normal"),
        lambda g, d, n, node: None,
    ),
    "target": (
        lambda g, d, n: g.GuidanceKitGuidanceTarget(
            classifier={"classifier": "digits demo", "label": "seven"}, away=False, weight=1.0
        ),
        lambda g, d, n, node: sampled(g, classifier_guidance(g, d, d.slot(2), node), n),
    ),
    "sweep": (
        lambda g, d, n: sweep(
            g, d, n, {"columns": "cfg scale", "values": "1, 2"}, {"rows": "classifier scale", "values": "1"}
        ),
        lambda g, d, n, node: None,
    ),
    "sweep methods": (
        lambda g, d, n: sweep(g, d, n, {"columns": "cfg method", "methods": "standard, apg"}, {"rows": "nothing"}),
        lambda g, d, n, node: None,
    ),
    "sweep schedules": (
        lambda g, d, n: sweep(
            g, d, n, {"columns": "cfg schedule", "schedules.schedule0": schedule(g)}, {"rows": "nothing"}
        ),
        lambda g, d, n, node: None,
    ),
    "folder": (
        lambda g, d, n: g.GuidanceKitLabelledFolder(
            folder="digits demo", vae=d.slot(1), label="", width=SIZE, height=SIZE
        ),
        lambda g, d, n, node: shown(g, judged(g, d, node)),
    ),
    "latents": (
        lambda g, d, n: g.GuidanceKitLabelledLatents(
            **{"latents.latent0": g.ProbeLatents(shape="6,1,16,16", level=0.0, seed=0)}, labels="seven"
        ),
        lambda g, d, n, node: shown(g, judged(g, d, node)),
    ),
    "train": (
        lambda g, d, n: train(g, d, folder(g, d), "fuzzed", steps=2, batch=4, evaluate_every=2, checkpoint_every=2),
        lambda g, d, n, node: shown(g, node.slot(4)),
    ),
    "evaluate": (lambda g, d, n: judged(g, d, folder(g, d)), lambda g, d, n, node: shown(g, node.slot(4))),
    "save": (
        lambda g, d, n: g.GuidanceKitSaveNoisyClassifier(
            classifier=d.slot(2), name="fuzzed", replace=True, licence="", author=""
        ),
        lambda g, d, n, node: None,
    ),
    "save null": (
        lambda g, d, n: g.GuidanceKitSaveNullCondition(
            conditioning=g.GuidanceKitNullConditionEncoder(kind={"kind": "learned", "file": "fuzzed.safetensors"}),
            name="fuzzed",
            replace=True,
        ),
        lambda g, d, n, node: None,
    ),
    "learn null": (
        lambda g, d, n: g.GuidanceKitLearnNullCondition(
            model=d,
            begin=n,
            latents=g.ProbeLatents(shape="6,1,16,16", level=0.0, seed=0),
            steps=2,
            batch=2,
            learning_rate=0.1,
            seed=0,
        ),
        lambda g, d, n, node: sampled(g, d, node),
    ),
    "weaken": (
        lambda g, d, n: weakened(g, d),
        lambda g, d, n, node: sampled(g, self_guidance(g, d, node), n),
    ),
    "self": (
        lambda g, d, n: self_guidance(g, d, weakened(g, d)),
        lambda g, d, n, node: sampled(g, node, n),
    ),
    "history": (
        lambda g, d, n: history_guidance(g, d, memory=0.6),
        lambda g, d, n, node: sampled(g, node, n),
    ),
    "vary": (
        lambda g, d, n: vary_condition(g, d),
        lambda g, d, n, node: sampled(g, node, n),
    ),
}

LINK = ["1", 0]  # to the digits' MODEL
# Digits stay out of free text: a number that fits, 9999 steps say, is a valid wish that would take its time.
TEXT = st.text(st.characters(exclude_categories=["Nd", "Nl", "No"]), max_size=60)
VALUES = st.one_of(
    st.sampled_from([None, True, False, "", " ", "NaN", "nan", "Infinity", "-inf", "1e999", "0x10", "None", "null"]),
    st.sampled_from([-1, 0, 1, 2**31, 2**63, 10**40, -(10**40), 0.5, -0.5, 1e300, -1e300]),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.sampled_from(["../x", "C:\\x", "a\0b", "(seven:1e9)", "seven |", "-", '"', "%s{0}${x}", "<b>", "🦊" * 50]),
    st.sampled_from(["1:8:3", "8:1:2, 0", "1:2:1e9", "1:1:2", "-0, 0", "100, -100", "apg, tcfg", "1,", "nothing"]),
    st.sampled_from(["cfg scale", "classifier scale", "cfg method", "standard", "autoguidance", "seven | -three"]),
    st.sampled_from(["x" * HUGE, ", ".join(["seven"] * 2000), "\n" * 1000]),
    st.sampled_from([[], {}, ["1"], LINK, [[1, 2]], {"a": 1}, {"__value__": [1]}]),
    TEXT,
)
CHANGES = st.dictionaries(st.integers(0, 30), VALUES, min_size=1, max_size=3)


# what ComfyUI says of a node and an input of it before it runs a prompt
REFUSALS = {
    "required_input_missing",
    "bad_linked_input",
    "return_type_mismatch",
    "invalid_input_type",
    "value_smaller_than_min",
    "value_bigger_than_max",
    "value_not_in_list",
}


def fuzzed(server, name, changes, missing, extra) -> bool:
    """Run a node's prompt with some of its widgets changed: whether it was refused.

    Raises unless the outcome is one that a user understands.
    """
    build, use = NODES[name]
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
    node = build(g, digits, null)
    use(g, digits, null, node)
    inputs = g.prompt[node.node]["inputs"]
    widgets = [key for key, value in inputs.items() if not isinstance(value, list)]
    for place, value in changes.items() if widgets else ():
        key = widgets[place % len(widgets)]
        if missing:
            inputs.pop(key, None)
        elif value != LINK or "." not in key:  # ComfyUI hands on links that a node has no input for, which none takes
            inputs[key] = value
        for socket in [each for each in inputs if each.startswith(f"{key}.") and isinstance(inputs[each], list)]:
            del inputs[socket]  # as the front end does with the sockets of a choice that is left
    inputs |= {key: value for key, value in extra.items() if value != LINK}
    titles = {each["display_name"] for kind, each in info(server).items() if kind.startswith("GuidanceKit")}
    try:
        server.run(g.prompt, timeout=90)
    except PromptRejected as refusal:
        assert list(refusal.node_errors) == [node.node], refusal
        for error in refusal.node_errors[node.node]["errors"]:
            widget = error["extra_info"]["input_name"]
            assert error["details"].startswith((widget, widget.rpartition(".")[2])), refusal
            if error["type"] == "custom_validation_failed":
                title, _, sentence = error["details"].partition(" - ")[2].partition(": ")
                assert title == info(server)[g.prompt[node.node]["class_type"]]["display_name"], refusal
                assert sentence.endswith("."), refusal
            else:
                assert error["type"] in REFUSALS and error["message"], refusal
        return True
    except PromptFailed as failure:
        said = failure.exception_message
        assert failure.exception_type.endswith("GuidanceError"), f"{failure.exception_type}: {failure}"
        assert said.partition(":")[0] in titles, said
        assert said.endswith((".", "?")), said
        return True
    return False


_info = {}


def info(server):
    if not _info:
        _info.update(server.object_info())
    return _info


@pytest.fixture(scope="module")
def base(server):
    """Classifiers and a null condition to load, and a good prompt with its result."""
    write_classifier(server.base / "models" / "classifiers" / "fuzzed")
    score = {"layers.0.weight": torch.ones(1, 24)}  # 24 is the size of the probe's embeddings
    save_file(score, server.base / "models" / "classifiers" / "fuzzed.safetensors")
    null = server.base / "models" / "null_conditions" / "fuzzed.safetensors"
    null.parent.mkdir(parents=True, exist_ok=True)
    NullCondition(torch.zeros(1, 7, 16)).save(null)
    g = Graph()
    g.GuidanceKitSaveNoisyClassifier(
        classifier=g.GuidanceKitLoadDigitsDemo().slot(2), name="fuzzed", replace=True, licence="", author=""
    )
    server.run(g.prompt)
    return good(server)


def good(server):
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
    latent = g.ProbeLatent(batch=1, channels=1, frames=0, masked=False, nonce=fresh())  # else the sampler is not run
    model = classifier_guidance(g, cfg_combine(g, digits, 3.0), digits.slot(2), "seven")
    seven = g.GuidanceKitClassCondition(model=digits, label="seven")
    sampled = ksampler(g, model, latent=latent, positive=seven, negative=null, steps=2)
    node = g.ProbeRead(latent=sampled, nonce=fresh())
    result = server.run(g.prompt)
    assert sampled.node in executed(result)
    return read(result, node).latent


def check(server, base, name, examples, **more):
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), **more)
    @given(CHANGES, st.booleans(), st.dictionaries(TEXT, VALUES, max_size=1))
    def any_prompt(changes, missing, extra):
        if fuzzed(server, name, changes, missing and len(changes) == 1, extra):
            assert np.array_equal(good(server), base)

    any_prompt()
    assert np.array_equal(good(server), base)


def test_every_node_with_an_input_is_tried(server):
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
    tried = {g.prompt[build(g, digits, null).node]["class_type"] for build, _ in NODES.values()}
    ours = {kind: each["input"] for kind, each in info(server).items() if kind.startswith("GuidanceKit")}
    assert tried == {kind for kind, inputs in ours.items() if any(inputs[how] for how in inputs if how != "hidden")}


@pytest.mark.parametrize("name", NODES)
def test_any_values(server, base, name):
    check(server, base, name, 8, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", NODES)
def test_any_values_at_length(server, base, name):
    check(server, base, name, 150)
