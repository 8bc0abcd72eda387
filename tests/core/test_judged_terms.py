"""Terms that follow a judge's gradient: what they tell and refuse, and what they do when memory runs out."""

import math
from dataclasses import replace

import pytest
import torch
from term_examples import JUDGES, LABELS, Brightness, term_of

import guidance_core as gc
from guidance_core.guiders import ClassifierGuided

SIGMA = 0.7


@pytest.fixture(params=JUDGES)
def name(request):
    return request.param


@pytest.fixture
def given(randn):
    """given(): denoised, x and sigma [B]."""

    def make():
        denoised, noise = randn(3, 4, 6, 5, seed=1), randn(3, 4, 6, 5, seed=2)
        return denoised, (1 - SIGMA) * denoised + SIGMA * noise, torch.full((3,), SIGMA, dtype=torch.float64)

    return make


def started(term, **run):
    return term.start(gc.Run(**run))


def test_each_evaluation_is_recorded(name, given):
    events = []
    started(term_of(name), record=events.append)(*given())
    (event,) = events
    assert (event.sigma, event.scale, event.passes) == (pytest.approx(SIGMA), 2.0, 1)
    assert event.log_prob.shape == event.grad_norm.shape == (3,)


@pytest.mark.parametrize("max_shift", [0.0, 0.001])
def test_the_push_is_the_change_as_a_share_of_what_is_open(name, given, max_shift):
    """Of r sqrt(n), r^2 = sigma^2 / (alpha^2 + sigma^2); after the cap."""
    events, (denoised, x, sigma) = [], given()
    term = replace(term_of(name), max_shift=max_shift)
    change = started(term, record=events.append)(denoised, x, sigma) - denoised
    left = SIGMA / math.hypot(gc.VE.alpha(torch.tensor(SIGMA)), SIGMA)
    torch.testing.assert_close(events[0].push, change.flatten(1).norm(dim=1) / (left * (4 * 6 * 5) ** 0.5))
    assert bool((events[0].push > 0).all())


def test_targets_that_the_judge_lacks_are_refused(name, given):
    term = replace(term_of(name), target=torch.tensor([0, 3, 1]))
    with pytest.raises(gc.GuidanceError, match="label"):
        started(term)(*given())


def test_memory_that_runs_out_halves_the_batch_and_changes_nothing(name, given, monkeypatch):
    want = started(term_of(name))(*given())
    whole, asked = Brightness.forward, []

    def short(self, x0):
        asked.append(len(x0))
        if len(x0) > 8:
            raise torch.cuda.OutOfMemoryError("Tried to allocate 1 GiB")
        return whole(self, x0)

    monkeypatch.setattr(Brightness, "forward", short)
    denoised, x, sigma = (torch.cat([t] * 3) for t in given())
    term = term_of(name)
    got = started(term)(denoised, x, sigma)
    assert len(asked) > 1
    monkeypatch.undo()
    assert torch.equal(got, started(term)(denoised, x, sigma))
    torch.testing.assert_close(got[:3], want, rtol=1e-12, atol=1e-12)


def test_a_term_guides_a_denoiser(name, given):
    denoised, x, sigma = given()
    guided = ClassifierGuided(lambda x, s: denoised, term_of(name))
    assert torch.equal(guided(x, sigma), started(term_of(name))(denoised, x, sigma))


def test_every_label_can_be_steered_to(name, given):
    denoised, x, sigma = given()
    events = []
    for label in LABELS:
        term = term_of(name, 0.05, target=label, max_shift=0.0, entropy_aware=False)
        run = started(term, record=events.append)
        at = denoised
        for _ in range(3):
            at = run(at, x if name != "classifier" else x + (at - denoised), sigma)
        before, *_, after = events[-3:]
        assert bool((after.log_prob > before.log_prob).all()), label
