"""Noise in the condition: the formulas, what every kind keeps, and pictures that differ."""

import math
from dataclasses import FrozenInstanceError

import pytest
import torch

import guidance_core as gc
from guidance_core.demo import load
from guidance_core.shapes import Keyframes
from guidance_core.tensors import draw_of, seeded_noise
from guidance_core.variety import varieties
from guidance_core.variety.base import PLACES
from guidance_core.variety.cads import ANNEALED, Cads
from guidance_core.variety.seed_variance import SeedVariance

SIGMAS = (10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.0)
ON = {"cads": {"scale": 0.5, "psi": 0.4}, "seed_variance": {"share": 0.4}}
ALWAYS = gc.ScaleSchedule("constant", high=0.6)


@pytest.fixture(params=varieties())
def name(request):
    return request.param


def started(name, seed=3, **options):
    return varieties()[name](**ON[name] | {"schedule": ALWAYS} | options).start(gc.Run(sigmas=SIGMAS, seed=seed))


def level(sigma, batch=3):
    return torch.full((batch,), sigma)


def test_every_variety_says_what_it_is_and_is_frozen(name):
    cls = varieties()[name]
    assert cls.name == name and all(getattr(cls, word).strip() for word in ("title", "doc", "source"))
    with pytest.raises(FrozenInstanceError):
        cls().scale = 0.0


@pytest.mark.parametrize("shape", [(3, 7, 8), (3, 16), (3, 2, 5, 8)], ids=len)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_shape_and_dtype_are_kept_and_the_condition_untouched(name, shape, dtype, randn):
    condition = randn(*shape, dtype=dtype)
    before = condition.clone()
    out = started(name)(condition, level(5.0))
    assert (out.shape, out.dtype) == (condition.shape, dtype) and bool(out.isfinite().all())
    assert not torch.equal(out, condition) and torch.equal(condition, before)


def test_0_is_off_to_the_bit(name, randn):
    condition = randn(3, 7, 8)
    assert started(name, scale=0.0)(condition, level(5.0)) is condition
    late = gc.ScaleSchedule(start=1.0, end=0.0, axis="sigma")
    run = started(name, schedule=late)
    assert run(condition, level(5.0)) is condition and not torch.equal(run(condition, level(0.5)), condition)


def test_each_sample_has_noise_of_its_own_whatever_its_mates(name, randn):
    condition = randn(1, 7, 8).expand(3, 7, 8)
    whole = started(name)(condition, level(5.0))
    assert not torch.allclose(whole[0], whole[1])
    other = started(name)(torch.cat([condition[:1], 5 * condition[1:]]), level(5.0))
    assert torch.equal(other[:1], whole[:1])
    assert torch.equal(started(name)(condition[:1], level(5.0, 1)), whole[:1])


def test_runs_repeat_to_the_bit_and_other_seeds_and_places_do_not(name, randn):
    condition = randn(2, 7, 8)
    want = started(name)(condition, level(5.0, 2))
    run = started(name)
    assert torch.equal(run(condition, level(5.0, 2)), want) and torch.equal(run(condition, level(5.0, 2)), want)
    others = [started(name, seed=4)(condition, level(5.0, 2)), run(condition, level(5.0, 2), 1)]
    more = varieties()[name](**ON[name], schedule=ALWAYS, variation=1).start(gc.Run(sigmas=SIGMAS, seed=3))
    others.append(more(condition, level(5.0, 2)))
    assert not any(torch.allclose(other, want) for other in others)


def test_padding_stays_zero_and_does_not_count(name, randn):
    """Some text encoders fill a prompt up with zeros: noise there is read as words."""
    words = randn(2, 5, 8)
    padded = torch.cat([words, torch.zeros(2, 4, 8, dtype=torch.float64)], 1)
    out = started(name)(padded, level(5.0, 2))
    assert not bool(out[:, 5:].any()) and not torch.equal(out[:, :5], words)
    if name == "cads":
        kept = started(name, psi=1.0)(padded, level(5.0, 2))[:, :5]
        torch.testing.assert_close(kept.flatten(1).std(1), words.flatten(1).std(1))
        torch.testing.assert_close(kept.flatten(1).mean(1), words.flatten(1).mean(1))
    empty = torch.zeros(2, 16)
    assert started(name)(empty, level(5.0, 2)) is empty


def test_cads_is_the_papers(randn):
    """Equations 2 to 4, with a plain reading of each; gamma by the default schedule is tau1 0.6, tau2 0.9."""
    y, scale, psi, seed = randn(3, 7, 8), 0.25, 0.7, 5
    n_steps = 41
    run = gc.Run(sigmas=(*torch.linspace(20, 1, n_steps).tolist(), 0.0), seed=seed)
    vary = Cads(scale=scale, psi=psi).start(run)
    seen = set()
    for i, sigma in enumerate(run.sigmas[:-1]):
        t, tau1, tau2 = 1 - i / (n_steps - 1), 0.6, 0.9
        gamma = 1.0 if t <= tau1 else 0.0 if t >= tau2 else (tau2 - t) / (tau2 - tau1)
        n = seeded_noise(y, seed * PLACES, [draw_of(sigma)] * 3)
        noisy = math.sqrt(gamma) * y + scale * math.sqrt(1 - gamma) * n
        want = y.clone()
        for b in range(3) if gamma < 1 else ():
            rescaled = (noisy[b] - noisy[b].mean()) / noisy[b].std() * y[b].std() + y[b].mean()
            want[b] = psi * rescaled + (1 - psi) * noisy[b]
        torch.testing.assert_close(vary(y, level(sigma)), want)
        seen.add(round(gamma, 6))
    assert {0.0, 1.0} < seen and len(seen) > 10


def test_a_schedule_beyond_1_is_refused_by_cads(randn):
    with pytest.raises(gc.GuidanceError, match="cads needs a schedule in .0, 1.*got 1.5"):
        started("cads", schedule=gc.ScaleSchedule(high=1.5))(randn(2, 7, 8), level(5.0, 2))


def test_seed_variance_changes_a_share_of_the_values_until_the_switchover(randn):
    y = randn(2, 40, 50)
    run = gc.Run(sigmas=tuple(range(22, 0, -1)))
    vary = SeedVariance(scale=2.0, share=0.3).start(run)
    change = vary(y, level(22.0, 2)) - y
    assert float((change != 0).double().mean()) == pytest.approx(0.3, abs=0.02)
    for sample, value in zip(change, y, strict=True):
        drawn = sample[sample != 0] / (2 * value.std())
        assert float(drawn.abs().max()) <= 1 and float(drawn.abs().mean()) == pytest.approx(0.5, abs=0.03)  # uniform
    assert torch.equal(vary(y, level(20.0, 2)) - y, change)  # one draw for the run
    assert torch.equal(vary(y, level(18.0, 2)) - y, change) and vary(y, level(17.0, 2)) is y
    assert not (SeedVariance(share=1.0).start(run)(y, level(22.0, 2)) == y).any()


def test_samples_at_different_levels_are_refused(name, randn):
    with pytest.raises(gc.GuidanceError, match="one noise level"):
        started(name)(randn(2, 7, 8), torch.tensor([5.0, 4.0]))


LATE = gc.ScaleSchedule(Keyframes("0:1, 0.4:1, 0.8:0", "linear"))  # the digits decide late what they are


@pytest.mark.parametrize("variety", [Cads(0.5, LATE), SeedVariance(4.0, LATE)], ids=lambda v: v.name)
def test_digits_from_one_noise_differ_and_stay_what_was_asked_for(variety):
    """Eight pictures of one noise: all alike without variety, and differing with it."""
    digits = load()
    noise = torch.randn(1, *digits.shape, generator=torch.Generator().manual_seed(1)).expand(8, *digits.shape)
    threes = digits.network.label(torch.tensor([3]))
    denoiser = gc.v_denoiser(digits.network, digits.sigmas)
    sigmas = gc.trailing(digits.sigmas, 12)
    plain, *rest = (
        digits.to_image(gc.sample(guided, noise, sigmas))
        for guided in (digits.cond(3), gc.varied(denoiser, variety, y=threes), gc.varied(denoiser, variety, y=threes))
    )
    assert torch.equal(*rest)
    apart = [(images - images.mean(0)).flatten(1).norm(dim=1).mean() for images in (plain, rest[0])]
    assert float(apart[0]) < 1e-3 < 0.1 < float(apart[1])
    assert digits.judge.accuracy(rest[0], torch.full((8,), 3)) >= 0.75


def test_annealing_ends_at_tau_1():
    strengths = [ANNEALED(place) for place in (0.0, 0.1, 0.25, 0.4, 0.5, 1.0)]
    assert strengths == pytest.approx([1, 1, 0.5, 0, 0, 0])
