"""The curve that the server answers with is the schedule that runs, and no question brings the server to its knees."""

import http.client
import json
import math
import os
import re
from urllib.parse import urlsplit

import pytest
from graph import Graph, cfg_combine, custom_sampler, fresh, ksampler, read, schedule
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import guidance_core as gc
from devtools import host
from devtools.server import ComfyServer
from guidance_core.run import percent_of_training
from guidance_core.shapes import SHAPES

TRAINING = gc.sigmas_from_betas(gc.betas("scaled_linear"))
PARAMETERS = {
    "power": {"exponent": 3.0},
    "exponential": {"rate": 5.0},
    "triangle": {"peak": 0.3},
    "keyframes": {"points": "0: 0.2, 0.4: 2, 1: -0.5", "interpolation": "monotone_cubic"},
    "values": {"values": "0, 1.5, 0.25, 1"},
}
WINDOWS = {"step": (0.13, 0.83), "percent": (0.13, 0.83), "sigma": (7.3, 0.31), "log_snr": (-3.1, 1.7)}
LEVELS = {"low": 0.25, "high": 1.5}


def levels_of(shape: str) -> dict:
    """Which levels the shape's widgets have."""
    kinds = {"constant": ("high",), "interval": ("high",), "keyframes": (), "values": ()}
    return {name: LEVELS[name] for name in kinds.get(shape, LEVELS)}


def question(shape="cosine", axis="step", window=None, **more) -> dict:
    """A question as the front end asks it."""
    start, end = window or WINDOWS[axis]
    values = {"shape": shape, **{f"shape.{k}": v for k, v in {**PARAMETERS.get(shape, {}), **levels_of(shape)}.items()}}
    values |= {"axis": axis, "axis.start": start, "axis.end": end, "reverse": False, "preserve_mean": False}
    return {"inputs": values | more.pop("inputs", {}), "curve": None, **more}


def ask(server, body: object) -> tuple[int, dict]:
    """Status and answer of the route; a body that is no bytes is sent as JSON."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    try:
        connection.request("POST", "/guidance_kit/schedule", body if isinstance(body, bytes) else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def answered(server, body: dict) -> dict:
    status, answer = ask(server, body)
    assert status == 200 and "error" not in answer, answer
    return answer


def karras_run(steps: int) -> gc.Run:
    sigmas = gc.karras(float(TRAINING[0]), float(TRAINING[-1]), steps)
    return gc.Run(sigmas=tuple(sigmas.tolist()), percent=percent_of_training(TRAINING))


@pytest.mark.parametrize("axis", WINDOWS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
def test_strengths_are_those_of_the_schedule(server, shape, axis, turned):
    """At every step, and between steps where sigma falls evenly; turned: reversed, with the mean preserved."""
    steps, (start, end) = 13, WINDOWS[axis]
    flags = {"reverse": turned, "preserve_mean": turned}
    answer = answered(server, question(shape, axis, inputs=flags, run={"steps": steps, "scheduler": "karras"}))
    made = SHAPES[shape](**PARAMETERS.get(shape, {}))
    run = karras_run(steps)
    strength = gc.ScaleSchedule(made, start, end, axis=axis, **flags, **levels_of(shape)).over(run)
    assert answer["steps"] == pytest.approx([strength(level) for level in run.levels], abs=2e-4)
    pieces = (len(answer["strengths"]) - 1) // (steps - 1)
    between = [
        a + (b - a) * k / pieces for a, b in zip(run.levels, run.levels[1:], strict=False) for k in range(pieces)
    ]
    assert answer["strengths"][:-1] == pytest.approx([strength(level) for level in between], abs=2e-3)
    assert answer["places"] == pytest.approx([i / len(between) for i in range(len(between) + 1)], abs=1e-6)
    assert answer["range"] == pytest.approx([min(0, *answer["strengths"]), max(1, *answer["strengths"])], abs=1e-5)
    assert ("Stable Diffusion's noise levels" in answer["caption"]) == (axis != "step")


def test_a_drawn_curve_takes_the_place_of_the_shape(server):
    curve = {"points": [[0, 1], [0.5, 0], [1, 1]], "interpolation": "linear"}
    answer = answered(server, question("cosine", window=(0.0, 1.0), run={"steps": 5}) | {"curve": curve})
    low, high = LEVELS["low"], LEVELS["high"]
    assert answer["steps"] == pytest.approx([high, (high + low) / 2, low, (high + low) / 2, high])
    assert answer["title"] == "strength: drawn curve"


@pytest.mark.parametrize(
    ("use", "caption"),
    [
        ({"drives": "cfg", "scale": 5.0}, "10 steps: 4 guided, 6 single-pass"),
        ({"drives": "cfg", "scale": 1.0}, "10 steps: 10 single-pass"),
        ({"drives": "classifier"}, "10 steps: 4 steered, 6 not steered"),
        ({}, "10 steps: 4 on, 6 off"),
    ],
)
def test_caption_counts_the_steps(server, use, caption):
    asked = question("interval", window=(0.3, 0.7), inputs={"shape.high": 1.0}, run={"steps": 10}, use=use)
    assert answered(server, asked)["caption"] == caption


SAMPLERS = {
    "euler": {"sampler": "euler", "scheduler": "normal"},
    "discards": {"sampler": "dpm_2", "scheduler": "karras"},
    "beta": {"sampler": "euler", "scheduler": "beta"},
}


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("sampler", [*SAMPLERS, "custom"])
def test_after_a_run_the_curve_is_on_its_noise_levels(server, kind, sampler):
    """The passes that it tells are those that ran; of another workflow's sampler of that number it knows nothing."""
    g, steps, (start, end) = Graph(), 9, (0.2, 0.6)
    made = schedule(g, "interval", "percent", start=start, end=end)
    probe = g.ProbeModel(kind=kind, seed=0, nonce=fresh())
    model = cfg_combine(g, probe, 4.0, schedule=made)
    if sampler == "custom":
        latent = custom_sampler(g, model, "cfg", 4.0, steps=steps)
        run = {"steps": steps}
    else:
        latent = ksampler(g, model, steps=steps, **SAMPLERS[sampler])
        names = SAMPLERS[sampler]
        run = {"steps": steps, "scheduler": names["scheduler"], "sampler_name": names["sampler"]}
    node, workflow = g.ProbeRead(latent=latent, model=probe, nonce=fresh()), f"workflow {kind} {sampler}"
    ran = server.run(g.prompt, extra_data={"extra_pnginfo": {"workflow": {"id": workflow}}})
    passes = read(ran, node).passes
    asked = question("interval", "percent", (start, end), use={"drives": "cfg", "scale": 4.0})
    answer = answered(server, asked | {"run": run | {"workflow": workflow, "node": latent.node}})
    assert len(answer["steps"]) == steps
    if sampler != "discards":  # which calls the model twice a step
        assert sum(answer["acting"]) == passes - steps
    assert "Stable Diffusion" not in answer["caption"]
    elsewhere = answered(server, asked | {"run": run | {"workflow": "another", "node": latent.node}})
    assert "Stable Diffusion" in elsewhere["caption"]


@pytest.mark.parametrize(
    ("cut", "levels"),
    [
        ({"denoise": 0.5}, karras_run(20).levels[10:]),
        ({"start_at_step": 3, "end_at_step": 8}, karras_run(10).levels[3:8]),
        ({"sampler_name": "dpm_2"}, karras_run(11).levels[:10]),
        ({"sampler_name": "dpm_2", "denoise": 0.5}, karras_run(21).levels[10:20]),
    ],
)
def test_a_run_in_part_has_the_levels_of_that_part(server, cut, levels):
    """denoise: the last of a longer run; KSampler (Advanced): those between its steps; dpm_2: all but the last."""
    steps = 10
    asked = question("linear", "sigma", run={"steps": steps, "scheduler": "karras", **cut})
    strength = gc.ScaleSchedule("linear", *WINDOWS["sigma"], axis="sigma", **LEVELS)
    whole = gc.Run(sigmas=(*levels, 0.0))
    expected = [strength.over(whole)(level) for level in levels]
    assert answered(server, asked)["steps"] == pytest.approx(expected, abs=2e-4)


def test_the_longest_run_is_drawn_without_its_steps(server):
    answer = answered(server, question(run={"steps": 10000, "scheduler": "simple"}))
    assert answer["steps"] == [] and len(answer["strengths"]) <= 1001 and answer["caption"] == "10000 steps"


def test_a_scheduler_of_another_pack_may_refuse_with_any_error(server):
    asked = question("linear", "sigma")
    assert len(answered(server, asked | {"run": {"steps": 6, "scheduler": "probe_even"}})["steps"]) == 6
    status, answer = ask(server, asked | {"run": {"steps": 7, "scheduler": "probe_even"}})
    assert status == 200 and "the scheduler 'probe_even' makes no 7 steps (an even number" in answer["error"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"inputs": {"axis.start": 0.9, "axis.end": 0.1}}, "start must come before end"),
        ({"inputs": {"axis.start": 2.0}}, "start must be in [0, 1]"),
        ({"inputs": {"shape": "values", "shape.values": "x"}}, "'x' is not a number"),
        ({"inputs": {"shape": "spline"}}, "shape must be one of constant"),
        ({"inputs": {"shape": ["cosine"]}}, "shape must be one of constant"),
        ({"inputs": {"axis": {}}}, "axis must be one of step"),
        ({"inputs": {"shape": "power"}}, "exponent is missing"),
        ({"inputs": {"reverse": "no"}}, "reverse must be true or false"),
        ({"curve": {"points": "abc"}}, "the curve input is not a curve"),
        ({"inputs": {"axis.start": 10**400}}, "start must be in [0, 1]"),
        ({"curve": [[0, 1], [1, 10**400]]}, "is not a number between -100 and 100"),
        ({"run": {"steps": 10**400}}, "steps must be in [1, 10000]"),
        ({"run": {"steps": 10001}}, "steps must be in [1, 10000]"),
        ({"run": {"steps": 1e400}}, "steps must be in [1, 10000]"),
        ({"run": {"steps": 20, "denoise": 0.0}}, "takes no step"),
        ({"run": {"steps": 10000, "denoise": 0.001}}, "takes no step"),
        ({"run": {"steps": 5, "start_at_step": 5}}, "takes no step"),
        ({"run": {"speed": 20}}, "no parameter 'speed'"),
    ],
)
def test_what_cannot_be_drawn_is_told(server, change, sentence):
    status, answer = ask(server, question() | change | {"inputs": question()["inputs"] | change.get("inputs", {})})
    assert status == 200 and sentence in answer["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\xfa",
        b"[" * 60000,
        b'{"inputs": 3}',
        b'{"inputs": {}, "run": 3}',
        b'{"inputs": {}, "use": []}',
        b" " * 70000,
    ],
    ids=repr,
)
def test_what_is_no_question_is_refused(server, body):
    status, answer = ask(server, body)
    assert status == 400 and answer["error"].startswith(("a question about a curve", "'"))


NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, -1, 10**400, 0.5, 1e-300, 9999]))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=12)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
    max_leaves=8,
)
POINTS = st.lists(st.lists(st.one_of(NUMBERS, st.text(max_size=3)), min_size=1, max_size=3), max_size=6)


@st.composite
def odd_questions(draw) -> dict:
    """A question with some of its values replaced by anything, and perhaps curves and runs of any kind."""
    asked = question(draw(st.sampled_from(sorted(SHAPES))), draw(st.sampled_from(sorted(WINDOWS))))
    for name in draw(st.lists(st.sampled_from(sorted(asked["inputs"])), max_size=3)):
        asked["inputs"][name] = draw(st.one_of(JSON, NUMBERS))
    asked["curve"] = draw(st.one_of(st.none(), JSON, POINTS, st.fixed_dictionaries({"points": POINTS})))
    sampler = {"steps": st.integers(-1, 60) | JSON, "denoise": st.floats(0, 1) | JSON, "scheduler": st.text() | JSON}
    sampler["scheduler"] = st.sampled_from(["karras", "beta", "ddim_uniform", "linear_quadratic", "kl_optimal", "x"])
    if draw(st.booleans()):
        asked["run"] = draw(st.fixed_dictionaries({}, optional=sampler))
    return asked


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.one_of(odd_questions(), JSON, st.binary(max_size=40)))
def test_any_question_is_answered(server, body):
    status, answer = ask(server, body)
    assert status in (200, 400)
    if "error" in answer:
        assert isinstance(answer["error"], str) and answer["error"]
    else:
        numbers = [*answer["places"], *answer["strengths"], *answer["steps"], *answer["range"]]
        assert all(map(math.isfinite, numbers)) and len(numbers) > 3


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_two_copies_of_the_pack_share_one_route(tmp_path):
    """As where it was cloned, and installed by a manager beside: the server starts, and answers."""
    second = tmp_path / "second-copy"
    second.symlink_to(host.ROOT, target_is_directory=True)
    with ComfyServer(packs=[second]) as server:
        log = server.log()
        assert all(re.search(rf" seconds: .*{name}$", log, re.MULTILINE) for name in (host.PACK_NAME, second.name))
        assert answered(server, question())["strengths"]
