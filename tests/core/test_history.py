"""History terms against a plain reading of their papers, in float64, and what a step of the run enters once."""

import math

import pytest
import torch
from term_examples import ON, uncapped

import guidance_core as gc
from guidance_core.guiders import ClassifierGuided
from guidance_core.terms.higs import Higs, high_frequencies
from guidance_core.terms.history import EarlierSteps
from guidance_core.terms.momentum_guidance import MomentumGuidance
from guidance_core.terms.tangential import TangentialGuidance

FALLING = (10.0, 5.0, 2.0, 1.0, 0.0)
TIMES = torch.tensor([0.999, 0.9, 0.7, 0.5, 0.3, 0.1, 0.0], dtype=torch.float64)  # of flow, 0 is clean


@pytest.fixture
def close():
    return lambda got, want: torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def sampled(mixture, term, path, sigmas, noise, sampler="euler"):
    return gc.sample(ClassifierGuided(mixture.denoiser(path), term, path), noise, sigmas, sampler, path=path)


def test_momentum_is_the_papers_algorithm(mixture, close):
    """Algorithm 1, data at t = 1: m is of the velocities as the model gives them, and a step moves by the old one."""
    alpha, beta = 0.5, 0.6
    noise, denoiser = mixture.noise(4, seed=1), mixture.denoiser(gc.FLOW)
    z, m = noise * TIMES[0], None
    for sigma, after in zip(TIMES[:-1], TIMES[1:], strict=True):
        v = (denoiser(z, sigma.expand(4)) - z) / sigma  # towards data
        m = v if m is None else m
        z = z + (sigma - after) * (v + alpha * (v - m))
        m = (1 - beta) * v + beta * m
    close(sampled(mixture, MomentumGuidance(alpha, memory=beta), gc.FLOW, TIMES, noise), z)


@pytest.mark.parametrize("term", [MomentumGuidance(0.5), Higs(1.5), TangentialGuidance(0.15)], ids=lambda t: t.name)
def test_a_model_is_guided_alike_on_every_path(term, mixture, close):
    """A VE or VP model goes where the same model goes as a flow model: the terms know no path of their own."""
    noise, log_snr = mixture.noise(4, seed=1), gc.FLOW.log_snr(TIMES[:-1])
    ends = []
    for path in (gc.FLOW, gc.VE, gc.VP):
        sigmas = torch.cat([path.sigma_at(log_snr), torch.zeros(1, dtype=torch.float64)])
        ends.append(sampled(mixture, term, path, sigmas, noise, "ddim"))
    close(ends[1], ends[0])
    close(ends[2], ends[0])


def plain_transform(a):
    """The orthonormal DCT-II of a [H, W], by its sum."""
    height, width = a.shape
    out = torch.zeros_like(a)
    for u in range(height):
        for v in range(width):
            rows = torch.tensor([math.cos(math.pi * (2 * i + 1) * u / (2 * height)) for i in range(height)]).to(a)
            columns = torch.tensor([math.cos(math.pi * (2 * j + 1) * v / (2 * width)) for j in range(width)]).to(a)
            share = math.sqrt((1 if u == 0 else 2) / height) * math.sqrt((1 if v == 0 else 2) / width)
            out[u, v] = share * (a * rows[:, None].double() * columns.double()).sum()
    return out


def test_the_high_pass_is_the_papers(randn):
    """sigmoid(50 (R - R_c)) on each coefficient of the transform, R of frequencies in cycles of the axis."""
    a = randn(1, 1, 5, 7)
    got, want = plain_transform(high_frequencies(a, 0.3)[0, 0]), plain_transform(a[0, 0])
    for u in range(5):
        for v in range(7):
            kept = 1 / (1 + math.exp(-50 * (math.hypot(u / 5, v / 7) - 0.3)))
            assert float(got[u, v]) == pytest.approx(kept * float(want[u, v]), abs=1e-7)


def test_the_high_pass_takes_even_colour_away_and_leaves_detail(randn):
    even = torch.ones(1, 2, 16, 16, dtype=torch.float64)
    fine = torch.cos(math.pi * (2 * torch.arange(16, dtype=torch.float64) + 1) * 12 / 32)
    detail = (fine[:, None] * fine).expand(1, 2, 16, 16)
    assert float(high_frequencies(even, 0.3).abs().max()) < 1e-5
    torch.testing.assert_close(high_frequencies(detail, 0.3), detail, rtol=1e-5, atol=1e-5)
    sound = high_frequencies(randn(2, 3, 8), 0.0)  # [B, C, L]: along L alone
    torch.testing.assert_close(sound[0, 1], high_frequencies(randn(2, 3, 8)[:1, 1:2], 0.0)[0, 0])


def test_higs_is_the_papers_algorithm(randn, close):
    """Equations 6 and 8: g = sum of alpha (1 - alpha)^(k - 1 - i) D_i, nothing at the first step or outside."""
    w, alpha, eta, t_min, t_max = 1.75, 0.75, 0.2, 0.4, 0.8
    levels = (0.9, 0.75, 0.6, 0.45, 0.3)
    predictions = [randn(2, 3, 6, 5, seed=seed) for seed in range(len(levels))]
    run = Higs(w, memory=1 - alpha, eta=eta, t_min=t_min, t_max=t_max).start(gc.Run(gc.FLOW, (*levels, 0.0)))
    for k, (t, d) in enumerate(zip(levels, predictions, strict=True)):
        want = d
        if k > 0 and t_min < t <= t_max:
            new = d - sum(alpha * (1 - alpha) ** (k - 1 - i) * predictions[i] for i in range(k))
            along = (new * d).sum((1, 2, 3), keepdim=True) / (d * d).sum((1, 2, 3), keepdim=True) * d
            weight = w * math.sqrt((t - t_min) / (t_max - t_min))
            want = d + weight * high_frequencies(new - along + eta * along, 0.05)
        close(run(d, 0 * d, torch.full((2,), t, dtype=torch.float64)), want)


def test_a_window_of_higs_that_holds_nothing_is_refused():
    with pytest.raises(gc.GuidanceError, match="t_min must be below t_max, got 0.9 and 0.5"):
        Higs(t_min=0.9, t_max=0.5)


def test_tag_is_the_papers_algorithm(mixture, close):
    """Algorithm 1 on DDIM in the papers' frame: eta times the part of the step that is perpendicular to x."""
    eta, noise = 1.15, mixture.noise(4, seed=2)
    sigmas = torch.tensor([0.99, 0.8, 0.5, 0.2, 0.0], dtype=torch.float64)
    x, denoiser = noise * sigmas[0], mixture.denoiser(gc.VP)
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        a, b = (1 - sigma**2).sqrt(), (1 - after**2).sqrt()
        d = denoiser(x, sigma.expand(4))
        step = b * d + after * (x - a * d) / sigma - x
        along = (step * x).flatten(1).sum(1) / (x * x).flatten(1).sum(1)
        radial = along[:, None, None, None] * x
        x = x + radial + eta * (step - radial)
    close(sampled(mixture, TangentialGuidance(eta - 1), gc.VP, sigmas, noise, "ddim"), x)


@pytest.fixture
def averages():
    """averages(levels, sigmas): what EarlierSteps gives at each call, every value the number of its call from 1 on."""

    def run(levels, sigmas):
        earlier = EarlierSteps(gc.Run(sigmas=sigmas), lambda average, value: (average or ()) + (value,))
        return [earlier(i + 1, level) for i, level in enumerate(levels)]

    return run


def test_a_step_enters_the_average_once(averages):
    heun = (10.0, 5.0, 5.0, 2.0, 2.0, 1.0, 1.0)  # a level first by way of trial, then as it is
    for sigmas in (FALLING, None):
        assert averages(heun, sigmas) == [None, (1,), (1,), (1, 3), (1, 3), (1, 3, 5), (1, 3, 5)]
    halfway = (10.0, 7.0, 5.0, 3.0, 2.0, 1.5, 1.0)  # dpm_2 and its kin look ahead between two steps
    assert averages(halfway, FALLING) == [None, None, (1,), (1,), (1, 3), (1, 3), (1, 3, 5)]
    single = [float(torch.tensor(level * (1 + 2e-7), dtype=torch.float32)) for level in heun]
    assert averages(single, FALLING) == averages(heun, FALLING)
    assert averages((1.0, 2.0, 5.0), (1.0, 2.0, 5.0, 10.0)) == [None, (1,), (1, 2)]  # unsampling
    own = (10.0, 8.0, 6.0, 4.0, 3.0)  # dpm_fast goes by levels of its own: the first within each step
    assert averages(own, FALLING) == [None, None, None, (1,), (1,)]


@pytest.mark.parametrize("name", ["mg", "higs"])
def test_heun_goes_on_by_the_steps_before(name, mixture):
    """Both calls of a step of Heun's see the same average, of the steps before it."""
    term, denoiser, seen = uncapped(name, 1.0), mixture.denoiser(gc.VE), []
    sigmas, noise = torch.tensor(FALLING, dtype=torch.float64), mixture.noise(3, seed=1)

    def recorded(x, sigma):
        seen.append((x, denoiser(x, sigma), sigma))
        return seen[-1][1]

    gc.sample(ClassifierGuided(recorded, term), noise, sigmas, "heun")
    assert [float(sigma[0]) for _, _, sigma in seen] == [10, 5, 5, 2, 2, 1, 1]
    run, every = term.start(gc.Run(sigmas=FALLING)), term.start(gc.Run(sigmas=FALLING))
    steps = [seen[i] for i in (0, 2, 4, 6)]
    guided = gc.steps(ClassifierGuided(recorded, term), noise, sigmas, "heun")
    want = [run(denoised, x, sigma) for x, denoised, sigma in steps]
    got = [every(denoised, x, sigma) for x, denoised, sigma in seen]
    assert all(torch.equal(got[i], w) for i, w in zip((0, 2, 4, 6), want, strict=True))
    assert not torch.equal(got[3], seen[3][1]) and len(list(guided)) == 4


BROKEN = {  # the calls before, and those to which what was kept at these does not belong: level, size, dtype
    "it grows": ([(10.0,), (5.0,)], [(2.0, 8), (1.0, 8)]),
    "another dtype": ([(10.0,), (5.0,)], [(2.0, 6, torch.float32), (1.0, 6, torch.float32)]),
    "the level rises": ([(10.0,), (5.0,), (2.0,)], [(5.0,), (2.0,), (1.0,)]),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("name", ON)
def test_what_does_not_go_on_is_as_in_a_fresh_run(name, case, randn):
    def call(run, level, size=6, dtype=torch.float64, seed=0):
        denoised, x = randn(2, 4, size, 6, seed=seed).to(dtype), level * randn(2, 4, size, 6, seed=seed + 1).to(dtype)
        return run(denoised, x, torch.full((2,), level, dtype=torch.float64)), denoised

    before, after = BROKEN[case]
    run, fresh = (uncapped(name, 1.0).start(gc.Run(sigmas=FALLING)) for _ in range(2))
    for i, given in enumerate(before):
        out, denoised = call(run, *given, seed=i)
        assert i == 0 or not torch.equal(out, denoised)
    for i, given in enumerate(after):
        assert torch.equal(call(run, *given, seed=10 + i)[0], call(fresh, *given, seed=10 + i)[0])


@pytest.mark.parametrize("name", ["mg", "higs"])
def test_where_the_strength_is_0_steps_are_kept_all_the_same(name, randn):
    late = gc.ScaleSchedule(start=5.0, end=0.0, axis="sigma")
    always, window = (uncapped(name, 1.0, **given).start(gc.Run(sigmas=FALLING)) for given in ({}, {"schedule": late}))
    for i, level in enumerate(FALLING[:-1]):
        d, x, sigma = randn(2, 3, 6, 6, seed=i), level * randn(2, 3, 6, 6, seed=9), torch.full((2,), level).double()
        want, got = always(d, x, sigma), window(d, x, sigma)
        assert torch.equal(got, want if level <= 5 else d)
