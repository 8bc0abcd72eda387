"""Noise schedules against formulas written out independently, level by level."""

import math

import numpy as np
import pytest
import torch

import guidance_core as gc

ONES = torch.ones(3)
NAMES = ("linear", "scaled_linear", "cosine")
SIGMAS = gc.sigmas_from_betas(gc.betas("scaled_linear"))


def test_linear_betas():
    want = [1e-4 + (0.02 - 1e-4) * t / 999 for t in range(1000)]
    np.testing.assert_allclose(gc.betas("linear", 1000).numpy(), want, rtol=1e-12)


def test_scaled_linear_betas():
    want = [(math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * t / 999) ** 2 for t in range(1000)]
    np.testing.assert_allclose(gc.betas("scaled_linear").numpy(), want, rtol=1e-12)


@pytest.mark.parametrize("n", [50, 1000])
def test_cosine_abar_is_the_published_curve_until_beta_is_capped(n):
    def f(t):
        return math.cos((t / n + 0.008) / 1.008 * math.pi / 2) ** 2

    abar = (1 - gc.betas("cosine", n)).cumprod(0)
    np.testing.assert_allclose(abar[:-1].numpy(), [f(t + 1) / f(0) for t in range(n - 1)], rtol=1e-8)
    assert float(gc.betas("cosine", n).max()) == 0.999


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [10, 1000])
def test_sigmas_are_float64_rise_and_invert_to_abar(name, n):
    b = gc.betas(name, n)
    sigmas = gc.sigmas_from_betas(b)
    assert sigmas.dtype == torch.float64
    assert sigmas.shape == (n,)
    assert bool((sigmas.diff() > 0).all())
    abar = [math.prod(1 - beta for beta in b.tolist()[: t + 1]) for t in range(n)]
    np.testing.assert_allclose(1 / (1 + sigmas.numpy() ** 2), abar, rtol=1e-9)


def test_stable_diffusions_levels():
    """The two numbers that every Stable Diffusion user has seen."""
    assert [round(float(s), 4) for s in (SIGMAS[0], SIGMAS[-1])] == [0.0292, 14.6146]


@pytest.mark.parametrize("name", NAMES)
def test_zero_terminal_snr_ends_at_abar_zero_and_keeps_the_first_step(name):
    before, after = gc.betas(name), gc.zero_terminal_snr(gc.betas(name))
    root, old = (1 - after).cumprod(0).sqrt(), (1 - before).cumprod(0).sqrt()
    assert float(root[-1]) == 0
    torch.testing.assert_close(root[0], old[0])
    stretched = (old - old[-1]) / (old[0] - old[-1]) * old[0]
    torch.testing.assert_close(root, stretched, atol=1e-12, rtol=1e-9)
    sigmas = gc.sigmas_from_betas(after)
    assert bool(sigmas.isfinite().all())
    assert bool((sigmas.diff() > 0).all())


def test_zero_terminal_snr_of_stable_diffusion_ends_where_comfyui_lets_it_end():
    sigmas = gc.sigmas_from_betas(gc.zero_terminal_snr(gc.betas("scaled_linear")))
    assert float(1 / (1 + sigmas[-1] ** 2)) == pytest.approx(4.8973451890853435e-08)  # rescale_zero_terminal_snr_sigmas


@pytest.mark.parametrize("steps", [1, 7, 20, 999, 1000])
def test_leading_visits_every_kth_level_from_zero(steps):
    k = 1000 // steps
    want = [float(SIGMAS[i * k]) for i in range(steps)][::-1] + [0.0]
    assert gc.leading(SIGMAS, steps).tolist() == want


@pytest.mark.parametrize("steps", [1, 7, 20, 50, 999, 1000])
def test_trailing_begins_at_the_noisiest_level(steps):
    """As diffusers writes it: round(arange(n, 0, -n / steps)) - 1."""
    index = np.round(np.arange(1000, 0, -1000 / steps))[:steps].astype(int) - 1
    assert gc.trailing(SIGMAS, steps).tolist() == [*SIGMAS[index].tolist(), 0.0]
    assert index[0] == 999


@pytest.mark.parametrize("steps", [1, 2, 18])
def test_karras_is_edm_equation_5(steps):
    low, high, rho = 0.002, 80.0, 7.0
    want = [
        (high ** (1 / rho) + i / max(steps - 1, 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        for i in range(steps)
    ]
    np.testing.assert_allclose(gc.karras(low, high, steps).numpy(), [*want, 0.0], rtol=1e-12)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_flow_shift_divides_the_signal_to_noise_ratio(shift):
    """shift t / (1 + (shift - 1) t) is the time at which (1 - t) / t is divided by the shift."""
    t = gc.flow_shift(10, shift)
    assert (float(t[0]), float(t[-1])) == (1.0, 0.0)
    plain = [1 - i / 10 for i in range(1, 10)]
    want = [(1 - u) / u / shift for u in plain]
    np.testing.assert_allclose(((1 - t) / t)[1:-1].numpy(), want, rtol=1e-12)


@pytest.mark.parametrize("sigmas", [gc.leading(SIGMAS, 9), gc.trailing(SIGMAS, 9), gc.karras(0.1, 9, 9)])
def test_sampling_sigmas_fall_to_zero(sigmas):
    assert sigmas.dtype == torch.float64
    assert len(sigmas) == 10
    assert float(sigmas[-1]) == 0
    assert bool((sigmas.diff() < 0).all())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: gc.betas("square"), "no beta schedule 'square'; choose one of linear, scaled_linear, cosine"),
        (lambda: gc.betas("cosine", 0), "training steps must be a whole number between 1 and 1000000, got 0"),
        (lambda: gc.betas("cosine", 10**12), "between 1 and 1000000, got 1000000000000"),
        (lambda: gc.betas("linear", 2.5), "between 1 and 1000000, got 2.5"),
        (lambda: gc.betas("linear", 10, offset=0.1), "linear betas have no parameter 'offset': they take start, end"),
        (lambda: gc.betas("linear", 10, start=math.nan), "start must be a number between .*, got nan"),
        (lambda: gc.betas("linear", 2, end=1.5), "Betas must be above 0 and at most 1, got 1.5"),
        (lambda: gc.betas("cosine", 10, max_beta=-1.0), "Betas must be above 0 and at most 1, got -1"),
        (lambda: gc.zero_terminal_snr(ONES), "Only the last beta may be 1"),
        (lambda: gc.sigmas_from_betas(ONES), "Only the last beta may be 1"),
        (lambda: gc.sigmas_from_betas(torch.tensor([0.1, math.nan])), "Betas must be above 0 and at most 1, got nan"),
        (lambda: gc.sigmas_from_betas(torch.full((1000,), 0.9)), "no rising noise levels"),
        (lambda: gc.sigmas_from_betas(torch.full((10,), 1e-20)), "no rising noise levels"),
        (lambda: gc.zero_terminal_snr(gc.betas("linear", 1)), "at least 2 training steps, got 1"),
        (lambda: gc.leading(SIGMAS, 0), "between 1 and 1000, got 0"),
        (lambda: gc.trailing(SIGMAS, 1001), "between 1 and 1000, got 1001"),
        (lambda: gc.trailing(SIGMAS, 2.5), "between 1 and 1000, got 2.5"),
        (lambda: gc.leading(SIGMAS, True), "between 1 and 1000, got True"),
        (lambda: gc.karras(0.1, 10, 0), "sampling steps must be a whole number between 1 and 1000000, got 0"),
        (lambda: gc.karras(0.1, math.inf, 5), "sigma_max must be a number between .*, got inf"),
        (lambda: gc.karras("0.1", 10, 5), "sigma_min must be a number between .*, got '0.1'"),
        (lambda: gc.karras(0.1, 10, 5, rho=0), "rho between 0.1 and 100, got 0"),
        (lambda: gc.karras(1, 1 + 1e-14, 500), "too near to each other"),
        (lambda: gc.karras(10, 0.1, 5), "0 < sigma_min < sigma_max, got 10 and 0.1"),
        (lambda: gc.flow_shift(5, 0), "shift > 0, got 0"),
        (lambda: gc.flow_shift(5, math.nan), "shift must be a number between .*, got nan"),
        (lambda: gc.flow_shift(10, 1e-300), "too near to each other"),
    ],
)
def test_refusals_say_what_was_given(call, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence):
        call()
