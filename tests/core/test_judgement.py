"""The suggestion: laws of the interval and the scale, and what it is worth on the digits."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import guidance_core as gc
from guidance_core import demo
from guidance_core.assess.metrics import Evaluation, evaluate, even_edges
from guidance_core.assess.recommend import LEAST, MOST_SCALE, SATURATED, knowledge, suggest
from guidance_core.classifier.heads import as_head
from guidance_core.classifier.measurements import Bin, Suggestion
from guidance_core.demo.data import load_digits
from guidance_core.progress import run_to_end

CHANCE_LOSS = math.log(4)


def evaluation(known, errors=None, head="single"):
    """Bins two log-SNRs wide from -10 on, by how much of the label is known in each."""
    errors = errors or [0.01] * len(known)
    bins = tuple(
        Bin(-10.0 + 2 * i, -8.0 + 2 * i, 0.25 + 0.75 * max(k, 0.0), error, (1 - k) * CHANCE_LOSS)
        for i, (k, error) in enumerate(zip(known, errors, strict=True))
    )
    return Evaluation(as_head(head), bins, 0.25, CHANCE_LOSS, 1000, torch.zeros(len(bins), 15, 3), None)


def test_knowledge_of_a_guess_and_of_the_truth():
    (guess, half, perfect) = evaluation([0.0, 0.5, 1.0]).bins
    assert [knowledge(b, CHANCE_LOSS) for b in (guess, half, perfect)] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("known", [0.0, -0.5, LEAST / 2])
def test_at_chance_nothing_is_suggested_and_it_is_said(known):
    s = suggest(evaluation([known] * 6))
    assert (s.scale, s.log_snr_range, s.sigmas(gc.VE)) == (0.0, None, None)
    assert s.reason.startswith("Do not guide") and "no more than a guess (accuracy 25%, chance 25%)" in s.reason
    assert s.schedule()(0.3) == 0.0
    assert s.summary == "Do not guide with this classifier."


def test_a_perfect_classifier_is_used_everywhere_at_exact_bayes():
    s = suggest(evaluation([1.0] * 6, [0.0] * 6))
    assert (s.scale, s.log_snr_range) == (1.0, (-10.0, 2.0))
    assert "In more noise" not in s.reason and "less noise" not in s.reason


def test_both_ends_are_cut_and_it_is_said():
    s = suggest(evaluation([0.0, 0.2, 0.6, 0.9, 0.999, 0.999]))
    assert s.log_snr_range == (-8.0, -2.0)
    assert s.scale == round(3 / 1.7, 2)
    assert s.summary == "Begin with scale 1.76; guide between log-SNR -8 and -2."
    assert "log-SNR -8 and -2 (sigma 2.72 to 54.6 on VE and 0.731 to 0.982 on flow)" in s.reason
    assert "In more noise, it knows no more than a guess" in s.reason
    assert "With less noise it is certain" in s.reason


def test_a_badly_calibrated_part_is_left_out():
    s = suggest(evaluation([0.2, 0.5, 0.6, 0.7, 0.8, 0.8], [0.01, 0.2, 0.01, 0.01, 0.01, 0.3]))
    assert s.log_snr_range == (-6.0, 0.0)
    assert "In more noise, its probabilities are off (calibration error 0.20)" in s.reason
    assert "With less noise, its probabilities are off (calibration error 0.30)" in s.reason
    nowhere = suggest(evaluation([0.5] * 3, [0.4] * 3))
    assert nowhere.scale == 0 and "its probabilities are off (calibration error 0.40)" in nowhere.reason


def test_a_weak_classifier_gets_the_largest_scale_and_it_is_said():
    s = suggest(evaluation([0.02] * 4))
    assert s.scale == MOST_SCALE and "the most that is suggested, where one over that is 50" in s.reason


def test_the_verdict_comes_first_and_advises_no_scale_of_a_weak_one():
    assert suggest(evaluation([0.0, 0.2, 0.6, 0.9, 0.999, 0.999])).verdict(gc.VE) == "GOOD: scale 1.76, sigma 55 to 2.7"
    for known in (0.0, 0.02, 0.19):
        weak = suggest(evaluation([known] * 4))
        assert weak.weak and weak.verdict(gc.VE) == "WEAK: train longer, or on more examples"
        assert "Train it longer" in weak.reason or "That is little: train longer" in weak.reason


def test_scores_are_judged_alike():
    s = suggest(evaluation([0.0, 0.5, 0.8], [0.0] * 3, head="regression"))
    assert s.log_snr_range == (-8.0, -4.0) and s.scale == round(2 / 1.3, 2)
    assert "R^2" in s.reason and "Bayes" not in s.reason and "accuracy" not in s.reason


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 0.3)), min_size=1, max_size=12),
    st.floats(0.01, 0.5),
)
def test_laws(figures, less):
    known, errors = zip(*figures, strict=True)
    e = evaluation(list(known), list(errors))
    s = suggest(e)
    assert s == suggest(e)
    if s.log_snr_range is None:
        assert all(k < LEAST + 1e-9 or error > 0.1 for k, error in figures)
        return
    assert 1 <= s.scale <= MOST_SCALE
    low, high = s.log_snr_range
    inside = [b for b in e.bins if low <= b.log_snr_low < high]
    assert inside[0].log_snr_low == low and inside[-1].log_snr_high == high
    assert all(b.calibration_error <= 0.1 and knowledge(b, CHANCE_LOSS) >= LEAST - 1e-9 for b in inside)
    blunter = dataclasses.replace(
        e,
        bins=tuple(
            dataclasses.replace(b, loss=CHANCE_LOSS * (1 - max(LEAST * 1.01, (1 - less) * knowledge(b, CHANCE_LOSS))))
            if b in inside and all(knowledge(b, CHANCE_LOSS) < SATURATED for b in inside)
            else b
            for b in e.bins
        ),
    )
    assert suggest(blunter).scale >= s.scale  # who knows less has to pull harder


def test_sigmas_are_of_the_same_noise_on_every_path(path):
    low, high = Suggestion(1.0, (-3.0, 2.0), "").sigmas(path)
    assert float(path.log_snr(low)) == pytest.approx(2.0) and float(path.log_snr(high)) == pytest.approx(-3.0)


def test_the_schedule_is_on_inside_and_off_outside():
    schedule = Suggestion(1.0, (-3.0, 2.0), "").schedule()
    assert [schedule(place) for place in (-3.1, -2.9, 1.9, 2.1)] == [0.0, 1.0, 1.0, 0.0]


def test_guiding_the_digits_where_suggested_is_about_as_good_as_everywhere():
    pytest.importorskip("sklearn")
    d, held_out = demo.load(), load_digits()[1]
    edges = even_edges(d.classifier.log_snr_range)
    generator = torch.Generator().manual_seed(0)
    s = suggest(run_to_end(evaluate(d.classifier, held_out.x0, held_out.labels, edges, generator=generator)))
    assert 1.5 < s.scale < 4
    sigmas, labels = gc.trailing(d.sigmas, 25), torch.arange(30) % 10
    noise = torch.randn(30, *d.shape, generator=torch.Generator().manual_seed(0))
    accuracy = {}
    for name, schedule in {"suggested": s.schedule(), "everywhere": None}.items():
        denoiser = gc.classifier_guided(d.uncond, d.classifier, labels, s.scale, schedule)
        accuracy[name] = d.judge.accuracy(d.to_image(gc.sample(denoiser, noise, sigmas)), labels)
    strengths = [s.schedule()(float(gc.VE.log_snr(sigma))) for sigma in sigmas[:-1]]
    assert sum(strengths) <= 18  # of 25 steps
    assert accuracy["suggested"] >= accuracy["everywhere"] - 0.07 and accuracy["everywhere"] > 0.9
