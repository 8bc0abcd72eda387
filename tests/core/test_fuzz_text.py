"""Arbitrary words and numbers: schedules, parameters, targets and command lines work or say in a sentence why not."""

import argparse
import math
import os

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import guidance_core as gc
from guidance_core.__main__ import main
from guidance_core.commands import command as command_module
from guidance_core.commands import sentences
from guidance_core.errors import shortened
from guidance_core.params import make, params_of
from guidance_core.run import AXES, percent_of_training

TRAINING = gc.sigmas_from_betas(gc.betas("scaled_linear"))
RUNS = [
    gc.Run(sigmas=(14.6, 3.0, 0.5, 0.03, 0.0), percent=percent_of_training(TRAINING)),
    gc.Run(gc.VP, sigmas=(0.999, 0.5, 0.01, 0.0), percent=percent_of_training(TRAINING)),
    gc.Run(gc.FLOW, sigmas=tuple(gc.flow_shift(4).tolist())),
    gc.Run(sigmas=(5.0, 0.0), percent=percent_of_training(TRAINING)),
]
NUMBERS = st.floats() | st.floats(-2, 2) | st.integers(-3, 12) | st.sampled_from([10**400, -(10**400), 2**63, 1e-320])
VALUES = (
    NUMBERS
    | st.text(max_size=8)
    | st.none()
    | st.booleans()
    | st.lists(st.integers(), max_size=2)
    | st.complex_numbers()
)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)  # as an argument may be
WIDE = {"start": -math.inf, "end": math.inf, "low": 0.0, "high": 1.0, "reverse": False, "preserve_mean": False}
quick = settings(max_examples=150, deadline=None)


def refusal(call, *arguments, **named):
    """(result, ""), or (None, the sentence) of what was refused; any other error is one."""
    try:
        return call(*arguments, **named), ""
    except gc.GuidanceError as error:
        sentence = str(error)
        assert " " in sentence and sentence[-1] in ".?", sentence
        assert "object at" not in sentence, sentence
        return None, sentence


def finite_over_runs(schedule):
    """Its strengths are finite at the levels of every run and between them, or the run is refused."""
    for run in RUNS:
        strength, _ = refusal(schedule.over, run)
        for level in (*run.levels, *(0.7 * level for level in run.levels)):
            value, said = refusal(strength, level) if strength else (None, "refused")
            assert said or math.isfinite(value), (schedule, level)


@given(
    shape=st.sampled_from([*gc.SHAPES]) | st.text(max_size=8),
    axis=st.sampled_from(AXES),
    start=st.none() | NUMBERS,
    end=st.none() | NUMBERS,
    low=st.floats(-10, 10),
    high=st.floats(-10, 10),
    reverse=st.booleans(),
    preserve_mean=st.booleans(),
)
@example(shape="linear", axis="log_snr", **WIDE)
@example(shape="linear", axis="sigma", **WIDE | {"start": math.inf, "end": 0.0})
@example(shape="linear", axis="log_snr", **WIDE | {"start": 10**400, "end": None})
@example(shape="cosine", axis="sigma", **WIDE | {"start": 1e-320, "end": 0.0, "preserve_mean": True})
@quick
def test_a_schedule_of_any_numbers_has_finite_strengths_or_is_refused(shape, axis, **numbers):
    schedule, said = refusal(gc.ScaleSchedule, shape, axis=axis, **numbers)
    if schedule:
        finite_over_runs(schedule)
    elif shape not in gc.SHAPES:
        assert said.startswith(f"There is no schedule shape '{shape}'; choose one of ")
    else:
        assert any(word in said for word in ("start must", "end must"))


@given(field=st.sampled_from(["start", "end", "low", "high", "axis", "reverse", "preserve_mean"]), value=VALUES)
@quick
def test_one_wrong_value_of_a_schedule_is_named(field, value):
    schedule, said = refusal(gc.ScaleSchedule, "linear", **{field: value})
    if schedule:
        finite_over_runs(schedule)
    else:
        assert said.startswith(f"{field} must be ")
        assert any(f"got {shortened(text)}" in said for text in (str(value), repr(value)))


CHECKED = {**gc.cfg_methods(), **gc.SHAPES, "schedule": gc.ScaleSchedule}
NAMED = [(kind, name) for kind, cls in CHECKED.items() for name in params_of(cls)]


@given(where=st.sampled_from(NAMED), value=VALUES)
@example(("regional", "channels"), "1e999, nan")
@example(("apg", "eta"), 10**400)
@settings(quick, max_examples=400)
def test_any_value_of_any_parameter_is_taken_or_refused_by_name(where, value):
    kind, name = where
    if params_of(CHECKED[kind])[name].kind is object:
        return  # something to connect, which is no text
    made, said = refusal(make, CHECKED[kind], kind, {name: value})
    assert said or getattr(made, name) is value
    assert not said or name in said or (name == "target" and "the target" in said)


@given(kind=st.sampled_from([*CHECKED]), name=st.text(max_size=10))
@quick
def test_an_unknown_parameter_is_refused_with_the_known_ones(kind, name):
    if name in params_of(CHECKED[kind]):
        return
    made, said = refusal(make, CHECKED[kind], kind, {name: 1})
    assert made is None
    assert said.startswith(f"{kind} has no parameter '{name}': it takes ")
    assert all(known in said for known in params_of(CHECKED[kind]))


SPACINGS = {
    "karras": (gc.karras, ("sigma_min", "sigma_max", "steps", "rho")),
    "flow_shift": (gc.flow_shift, ("steps", "shift")),
    "trailing": (lambda **given: gc.trailing(TRAINING, **given), ("steps",)),
    "leading": (lambda **given: gc.leading(TRAINING, **given), ("steps",)),
    **{
        name: (lambda name=name, **given: gc.sigmas_from_betas(gc.betas(name, **given)), ("n", *names))
        for name, names in (("linear", ("start", "end")), ("cosine", ("offset", "max_beta")))
    },
}
USUAL = {"sigma_min": 0.03, "sigma_max": 14.6, "steps": 7, "rho": 7.0, "shift": 3.0, "n": 20}


@given(st.data(), st.sampled_from([*SPACINGS]))
@quick
def test_noise_levels_of_any_numbers_are_levels_or_refused(data, kind):
    """One number is arbitrary and the others are usual, or all are arbitrary but the count."""
    make_levels, names = SPACINGS[kind]
    chosen = data.draw(st.sampled_from([*names, None]))
    counts = st.integers(-2, 40) | NUMBERS.filter(lambda n: not isinstance(n, int) or abs(n) > 10**7)
    numbers = {name: USUAL[name] for name in names if name in USUAL}
    for name in names:
        if name == chosen or chosen is None:
            numbers[name] = data.draw(counts if name in ("steps", "n") else VALUES if name == chosen else NUMBERS, name)
    levels, said = refusal(make_levels, **numbers)
    if said:
        return
    falling = levels.flip(0) if kind in ("linear", "cosine") else levels
    assert bool(falling.isfinite().all())
    assert bool((falling.diff() < 0).all())
    assert float(falling[-1]) >= 0


@given(text=st.text(max_size=40) | st.text('ab,|-():." 01e9\n', max_size=30))
@example('"a')
@example("(a:1e400)")
@example("-" * 2000 + "a")
@quick
def test_any_target_text_means_something_or_says_why_not(text):
    for head in ("single", "multi", "regression"):
        for labels in (["a", "b", "ab"], ["a"], ['"', "-", "1"]):
            target, _ = refusal(gc.parse_target, text, labels, head)
            if target:
                assert bool(target.log_prob(torch.zeros(3, len(labels)), head).isfinite().all())


def option_words(command):
    """The options that a command has, without those whose work takes long."""
    parser = argparse.ArgumentParser()
    command_module(command).add_arguments(parser)
    return [
        word for action in parser._actions for word in action.option_strings if word not in ("-h", "--help", "--digits")
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files that are no classifiers, and paths that lead nowhere; the working folder is theirs meanwhile."""
    folder, before = tmp_path_factory.mktemp("files"), os.getcwd()
    os.chdir(folder)
    for name in ("empty.safetensors", "empty.pt", "empty.png"):
        (folder / name).write_bytes(b"")
    (folder / "labels.txt").write_text("a\nb\n")
    names = ("empty.safetensors", "empty.pt", "labels.txt", ".", "nowhere/out.safetensors", "nowhere.png", "a" * 300)
    yield [str(folder / name) for name in names]
    os.chdir(before)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_command_line_works_or_says_why_not(data, files, capsys):
    command = data.draw(st.sampled_from([*sentences()]) | WORDS)
    options = st.sampled_from(option_words(command)) if command in sentences() else st.just("--out")
    values = (
        st.sampled_from([*files, "1", "2", "0", "-1", "1e9", "nan", "99999999999999999999", "demo", "seven"]) | WORDS
    )
    words = [command]
    for _ in range(data.draw(st.integers(0, 5))):
        words += [data.draw(options), data.draw(values)] if data.draw(st.booleans()) else [data.draw(values)]
    try:
        status = main(words)
    except SystemExit as stopped:  # argparse's own: usage and a sentence
        status = stopped.code
    said = capsys.readouterr()
    assert status in (0, 2)
    assert status == 0 or said.err.strip()
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--seed", "99999999999999999999999"], "--seed must be a whole number"),
        (["--count", "99999999999"], "--count must be"),
        (["--steps", "99999999999"], "sampling steps must be a whole number between 1 and 1000"),
        (["--scale", "nan"], "scale must be in [-100, 100], got nan"),
        (["--target", ""], "The target is empty"),
        (["--classifier", "a" * 5000], "There is no noisy classifier file"),
        (["--out", "b" * 300 + ".png"], "could not be written: its name is too long"),
    ],
)
def test_refused_command_lines_of_sample(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given_words = dict(zip(words[::2], words[1::2], strict=True))
    line = {"--target": "seven", "--out": "out.png", "--steps": "1", "--count": "1"} | given_words
    assert main(["sample", *(word for pair in line.items() for word in pair)]) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
