"""Learning a schedule: of a score whose best schedule is known it is found; the command learns one for the digits."""

import re

import pytest
from PIL import Image

import guidance_core as gc
from guidance_core.__main__ import main
from guidance_core.progress import run_to_end
from guidance_core.train.schedule import keyframes, learn_schedule

WANTED = (0.0, 1.5, 0.75, 2.0)


def score(schedule):
    return sum((schedule(i / 3) - wanted) ** 2 for i, wanted in enumerate(WANTED))


def test_the_best_schedule_is_found():
    trials = []
    found = run_to_end(learn_schedule(score, points=4, rounds=12), trials.append)
    assert [found(i / 3) for i in range(4)] == pytest.approx(WANTED, abs=0.13)
    scores = [trial.score for trial in trials]
    assert scores == sorted(scores, reverse=True) and trials[0].best == keyframes((1.0,) * 4)
    assert trials[-1].done <= trials[-1].count


def test_what_is_best_already_stays():
    assert run_to_end(learn_schedule(lambda schedule: abs(schedule(0.5) - 1), points=3)) == keyframes((1.0,) * 3)
    with pytest.raises(gc.GuidanceError, match="2 points and 1 round at least, got 1 and 4"):
        run_to_end(learn_schedule(score, points=1))


def test_the_command_prints_a_schedule_that_sample_takes_and_draws_it(tmp_path, capsys):
    words = ["learn-schedule", "--count", "20", "--steps", "2", "--points", "2", "--rounds", "1"]
    assert main([*words, "--out", str(tmp_path / "curve.png")]) == 0
    said = capsys.readouterr().out
    assert re.search(r"constant +judge accuracy \d+\.\d%, diversity \d\.\d\d\nlearned ", said)
    schedule = re.search(r"--schedule '([^']+)'", said)[1]
    sampling = ["sample", "--cfg", "4", "--count", "2", "--steps", "1", "--out", str(tmp_path / "a.png")]
    assert main([*sampling, "--schedule", schedule]) == 0
    with Image.open(tmp_path / "curve.png") as curve:
        assert len(curve.getcolors(2**16)) > 3
    assert main(["learn-schedule", "--count", "5"]) == 2
    assert "--count must be at least 20" in capsys.readouterr().err
