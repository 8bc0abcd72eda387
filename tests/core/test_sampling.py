"""Samplers: agreement between samplers and between paths, orders of convergence, variances, steps, refusals."""

import math

import pytest
import torch
from torch.autograd import forward_ad

import guidance_core as gc

MEAN, VARIANCE = 0.7, 0.3  # of the single Gaussian


def gaussian(path):
    """The exact denoiser of N(MEAN, VARIANCE) in every coordinate."""

    def denoiser(x, sigma):
        sigma = sigma[:, None, None, None]
        alpha = path.alpha(sigma)
        return MEAN + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (x - alpha * MEAN)

    return denoiser


def gaussian_ode(path, x, sigma, sigma_next):
    """The exact end of the probability flow of that Gaussian: (x - alpha m) / std(x) stays as it is."""

    def parts(s):
        s = torch.tensor(s, dtype=torch.float64)
        alpha = path.alpha(s)
        return alpha * MEAN, (alpha**2 * VARIANCE + s**2).sqrt()

    (mean, std), (mean_next, std_next) = parts(sigma), parts(sigma_next)
    return mean_next + (x - mean) * std_next / std


def sigmas_for(path, steps=14):
    log_snr = torch.linspace(-6, 6, steps, dtype=torch.float64)
    return torch.cat([path.sigma_at(log_snr), torch.zeros(1, dtype=torch.float64)])


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_ddpm_is_ddim_with_eta_one(path, name, mixture):
    """With the same noise, step by step (arXiv:2010.02502, section 4.1)."""
    noise, options = mixture.noise(4, seed=3), {"eta": 1.0} if name == "ddim" else {}
    runs = gc.steps(
        mixture.denoiser(path), noise, sigmas_for(path), name, torch.Generator().manual_seed(5), path, **options
    )
    reference = gc.steps(
        mixture.denoiser(path), noise, sigmas_for(path), "ddpm", torch.Generator().manual_seed(5), path
    )
    for a, b in zip(runs, reference, strict=True):
        torch.testing.assert_close(a.x, b.x)


def test_ddpm_is_the_published_posterior(mixture):
    """arXiv:2006.11239, eq. 6-7, written with abar in the VP frame, for both variances."""
    path, sigmas, noise = gc.VP, sigmas_for(gc.VP), mixture.noise(3, seed=1)
    abar = 1 - sigmas**2
    for sampler in ("ddpm", "ddpm_large"):
        generator = torch.Generator().manual_seed(2)
        x = noise * sigmas[0]
        for i, step in enumerate(
            gc.steps(mixture.denoiser(path), noise, sigmas, sampler, torch.Generator().manual_seed(2), path)
        ):
            t, s = abar[i], abar[i + 1]
            alpha = t / s
            beta = 1 - alpha
            x0 = mixture.denoiser(path)(x, sigmas[i].expand(3))
            x = s.sqrt() * beta / (1 - t) * x0 + alpha.sqrt() * (1 - s) / (1 - t) * x
            if s < 1:
                variance = beta if sampler == "ddpm_large" else beta * (1 - s) / (1 - t)
                z = torch.randn(x.shape, generator=generator, dtype=torch.float64)
                x = x + variance.sqrt() * z
            torch.testing.assert_close(step.x, x)


@pytest.mark.parametrize("eta", [0.0, 0.4])
def test_ddim_is_the_published_step(eta, mixture):
    """arXiv:2010.02502, eq. 12 and 16, in the VP frame."""
    path, sigmas, noise = gc.VP, sigmas_for(gc.VP), mixture.noise(3, seed=1)
    abar, generator, x = 1 - sigmas**2, torch.Generator().manual_seed(2), noise * sigmas[0]
    run = gc.steps(mixture.denoiser(path), noise, sigmas, "ddim", torch.Generator().manual_seed(2), path, eta=eta)
    for i, step in enumerate(run):
        t, s = abar[i], abar[i + 1]
        x0 = mixture.denoiser(path)(x, sigmas[i].expand(3))
        eps = (x - t.sqrt() * x0) / (1 - t).sqrt()
        spread = eta * ((1 - s) / (1 - t)).sqrt() * (1 - t / s).sqrt()
        x = s.sqrt() * x0 + (1 - s - spread**2).sqrt() * eps
        if eta and s < 1:
            x = x + spread * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        torch.testing.assert_close(step.x, x)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m", "ddpm", "ddpm_large"])
def test_paths_agree_in_their_common_frame(sampler, mixture):
    """At equal log-SNR a run on VE, VP or flow is one run: x / alpha is the same after every step."""
    frames = {}
    for path in (gc.VE, gc.VP, gc.FLOW):
        denoiser, generator = mixture.denoiser(path), torch.Generator().manual_seed(4)
        run = gc.steps(denoiser, mixture.noise(3, seed=1), sigmas_for(path), sampler, generator, path)
        frames[path.name] = torch.stack([step.x / path.alpha(step.sigma_next) for step in run])
    torch.testing.assert_close(frames["VE"], frames["VP"])
    torch.testing.assert_close(frames["flow"], frames["VP"])


@pytest.mark.parametrize("path", [gc.VE, gc.FLOW], ids=lambda path: path.name)
def test_euler_is_ddim_where_paths_are_straight(path, mixture):
    denoiser, noise = mixture.denoiser(path), mixture.noise(3, seed=1)
    ends = [gc.sample(denoiser, noise, sigmas_for(path), sampler, path=path) for sampler in ("euler", "ddim")]
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("ddim", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_order_of_convergence(path, sampler, order, randn):
    """Halving the steps' length divides the error at the last level before 0 by 2 to the order."""
    noise, errors = randn(4, 1, 2, 2), []
    for n in (160, 320, 640):
        sigmas = torch.cat([path.sigma_at(torch.linspace(-3, 3, n + 1).double()), torch.zeros(1).double()])
        *_, before, _ = gc.steps(gaussian(path), noise, sigmas, sampler, path=path)
        exact = gaussian_ode(path, noise * sigmas[0], float(sigmas[0]), float(sigmas[-2]))
        errors.append(float((before.x - exact).abs().max()))
    measured = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert measured == pytest.approx([order, order], abs=0.2)


@pytest.mark.parametrize("sampler", gc.SAMPLERS)
def test_runs_reach_the_data(path, sampler, randn):
    """Many steps from nearly pure noise end with the mean and variance of the data, whichever the sampler."""
    log_snr = torch.linspace(-9, 9, 120, dtype=torch.float64)
    sigmas = torch.cat([path.sigma_at(log_snr), torch.zeros(1, dtype=torch.float64)])
    x0 = gc.sample(gaussian(path), randn(500, 1, 4, 4), sigmas, sampler, torch.Generator().manual_seed(1), path=path)
    assert float(x0.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(x0.var()) == pytest.approx(VARIANCE, rel=0.12)


@pytest.mark.parametrize("sampler", gc.SAMPLERS)
@pytest.mark.parametrize("path", [gc.VE, gc.FLOW], ids=lambda path: path.name)
def test_the_last_step_returns_the_prediction_itself(path, sampler, mixture):
    *_, last = gc.steps(mixture.denoiser(path), mixture.noise(2, seed=1), sigmas_for(path), sampler, path=path)
    torch.testing.assert_close(last.x, last.denoised)


@pytest.mark.parametrize("sampler", gc.SAMPLERS)
def test_a_flow_run_begins_at_pure_noise(sampler, mixture):
    """alpha is 0 at sigma 1: nothing is divided by it."""
    sigmas = gc.flow_shift(12)
    x0 = gc.sample(mixture.denoiser(gc.FLOW), mixture.noise(4, seed=1), sigmas, sampler, path=gc.FLOW)
    assert bool(x0.isfinite().all())
    assert float(x0.abs().max()) < 10


@pytest.mark.parametrize("sampler", gc.SAMPLERS)
def test_callback_sees_every_step_in_order(sampler, mixture):
    sigmas, seen = sigmas_for(gc.VE, 6), []
    noise, generators = mixture.noise(2, seed=1), [torch.Generator().manual_seed(1) for _ in range(2)]
    x0 = gc.sample(mixture.denoiser(gc.VE), noise, sigmas, sampler, generators[0], callback=seen.append)
    assert [step.index for step in seen] == list(range(6))
    assert [(step.sigma, step.sigma_next) for step in seen] == list(
        zip(sigmas.tolist(), sigmas.tolist()[1:], strict=False)
    )
    assert torch.equal(seen[-1].x, x0)
    same = list(gc.steps(mixture.denoiser(gc.VE), noise, sigmas, sampler, generators[1]))
    assert all(torch.equal(a.x, b.x) and torch.equal(a.denoised, b.denoised) for a, b in zip(seen, same, strict=True))
    assert torch.equal(noise, mixture.noise(2, seed=1))


@pytest.mark.parametrize(("sampler", "calls"), [("euler", 6), ("heun", 11), ("dpmpp_2m", 6), ("ddpm", 6)])
def test_passes_of_each_sampler(sampler, calls, counted, mixture):
    denoiser = counted(mixture.denoiser(gc.VE))
    gc.sample(denoiser, mixture.noise(1, seed=1), sigmas_for(gc.VE, 6), sampler)
    assert len(denoiser.calls) == calls


@pytest.mark.parametrize("sampler", gc.SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_samples_keep_the_shape_and_dtype_of_the_noise(sampler, dtype, randn):
    for shape in ((2, 3, 4, 4), (2, 3, 2, 4, 4)):
        x0 = gc.sample(lambda x, sigma: x * 0.5, randn(*shape, dtype=dtype), gc.karras(0.1, 10, 4), sampler)
        assert (x0.shape, x0.dtype) == (shape, dtype)


def test_percent_schedules_need_the_training_levels(randn):
    training = gc.sigmas_from_betas(gc.betas("scaled_linear"))
    schedule = gc.ScaleSchedule("interval", 0.0, 0.5, axis="percent")
    guided = gc.cfg_guided(lambda x, s: x * 0 + 1, lambda x, s: x * 0, 3.0, schedule)
    sigmas = gc.trailing(training, 10)
    means = []
    gc.sample(
        guided,
        randn(1, 1, 2, 2),
        sigmas,
        callback=lambda step: means.append(float(step.denoised.mean())),
        training_sigmas=training,
    )
    assert means == pytest.approx([3.0] * 5 + [1.0] * 5)  # its percents are 0, 0.1001, 0.2002, ...
    with pytest.raises(gc.GuidanceError, match="pass training_sigmas to sample"):
        gc.sample(guided, randn(1, 1, 2, 2), sigmas)


REFUSED = [
    (gc.VE, [10.0, 1.0], "fall and end at 0"),
    (gc.VE, [0.0], "fall and end at 0"),
    (gc.VE, [1.0, 2.0, 0.0], "fall and end at 0"),
    (gc.VE, [2.0, 2.0, 0.0], "fall and end at 0"),
    (gc.VE, [math.nan, 0.0], "fall and end at 0"),
    (gc.VE, [2.0, math.nan, 0.0], "fall and end at 0"),
    (gc.VE, [math.inf, 1.0, 0.0], "fall and end at 0"),
    (gc.FLOW, [14.6, 1.0, 0.0], "On the flow path sigma must be above 0 and at most 1, got 14.6"),
    (gc.VP, [14.6, 0.9, 0.0], "On the VP path sigma must be above 0 and below 1, got 14.6"),
    (gc.VP, [1.0, 0.9, 0.0], "On the VP path sigma must be above 0 and below 1, got 1"),
]


@pytest.mark.parametrize(("path", "sigmas", "sentence"), REFUSED)
def test_bad_sigmas_are_refused(path, sigmas, sentence, randn):
    with pytest.raises(gc.GuidanceError, match=sentence):
        gc.sample(lambda x, s: x, randn(1, 1, 2, 2), torch.tensor(sigmas), "euler", path=path)


def test_unknown_samplers_and_impossible_eta_are_refused(randn):
    def run(sampler, **options):
        return gc.sample(lambda x, s: x, randn(1, 1, 2, 2), gc.karras(0.1, 10, 3), sampler, **options)

    with pytest.raises(gc.GuidanceError, match="no sampler 'euler_a'; choose one of ddpm, ddpm_large, ddim"):
        run("euler_a")
    with pytest.raises(gc.GuidanceError, match=r"eta must be in \[0, 1\], got 1.5"):
        run("ddim", eta=1.5)


def test_a_guided_denoiser_on_another_path_is_refused(randn):
    guided = gc.classifier_guided(lambda x, s: x, lambda x, s, p: x.flatten(1), torch.tensor([0]), path=gc.FLOW)
    with pytest.raises(gc.GuidanceError, match="on the flow path, the run on VE"):
        gc.sample(guided, randn(1, 1, 2, 2), gc.karras(0.1, 10, 3))


def test_a_trainable_network_leaves_no_graph_behind():
    weight = torch.tensor(0.5, requires_grad=True)
    noise = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for step in gc.steps(lambda x, sigma: weight * x, noise, gc.karras(0.1, 10.0, 5), "heun"):
        assert not step.x.requires_grad
        assert not step.denoised.requires_grad


LEVELS = torch.tensor([5.0, 2.0, 1.0, 0.0])


@pytest.mark.parametrize("sampler", gc.SAMPLERS)
def test_noise_that_requires_a_gradient_is_refused_as_none_comes_out(sampler, randn):
    noise = randn(2, 1, 2, 2).requires_grad_()
    with pytest.raises(
        gc.GuidanceError, match=r"noise requires a gradient, and sampling gives none.*noise\.detach\(\)"
    ):
        gc.sample(lambda x, s: 0.5 * x, noise, LEVELS, sampler)
    with torch.no_grad():
        clean = gc.sample(lambda x, s: 0.5 * x, noise, LEVELS, sampler, generator=torch.Generator().manual_seed(0))
    again = gc.sample(lambda x, s: 0.5 * x, noise.detach(), LEVELS, sampler, generator=torch.Generator().manual_seed(0))
    assert torch.equal(clean, again)


@pytest.mark.parametrize("sampler", gc.SAMPLERS)
def test_sigmas_that_require_a_gradient_are_refused_as_it_would_be_a_part_of_the_right_one(sampler, randn):
    with pytest.raises(gc.GuidanceError, match=r"sigmas require a gradient, and sampling gives none"):
        gc.sample(lambda x, s: 0.5 * x, randn(2, 1, 2, 2), LEVELS.clone().requires_grad_(), sampler)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # of PyTorch's own first dual number
@pytest.mark.parametrize("which", [0, 1])
def test_a_forward_gradient_is_refused_too(which, randn):
    given = [randn(2, 1, 2, 2), LEVELS]
    with forward_ad.dual_level():
        given[which] = forward_ad.make_dual(given[which], torch.ones_like(given[which]))
        with pytest.raises(gc.GuidanceError, match="a gradient, and sampling gives none"):
            gc.sample(lambda x, s: 0.5 * x, *given)


@pytest.mark.parametrize("sampler", gc.SAMPLERS)
def test_a_denoiser_may_use_autograd_itself_and_nothing_of_it_comes_out(sampler, randn):
    """As guidance through the model does; also where it forgets to detach, or its weights are being trained."""
    weight, modes = torch.tensor(0.5, dtype=torch.float64, requires_grad=True), []

    def denoiser(x, sigma):
        modes.append(torch.is_grad_enabled())
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            denoised = weight * leaf
            (slope,) = torch.autograd.grad((denoised**2).sum(), leaf, retain_graph=True)
            return denoised - 0.1 * slope

    def closed(x, sigma):
        return 0.5 * x - 0.1 * 0.5 * x

    got, want = (
        gc.sample(each, randn(2, 1, 2, 2), LEVELS, sampler, generator=torch.Generator().manual_seed(0))
        for each in (denoiser, closed)
    )
    torch.testing.assert_close(got, want)
    assert not got.requires_grad and not any(modes)
