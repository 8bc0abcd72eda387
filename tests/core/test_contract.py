"""The contract of the library: each call that other programs rely on, made as it is promised."""

import pytest
import torch

import guidance_core as gc

LABELS = torch.tensor([0, 1, 2, 0])
SAMPLERS = ["ddim", "ddpm", "euler", "heun", "dpmpp_2m"]


@pytest.fixture
def x(mixture):
    return 3 * mixture.noise(4, seed=1)


@pytest.fixture
def sigma():
    return torch.full((4,), 2.0, dtype=torch.float64)


def eps_net(sigmas, mixture):
    """The mixture as a noise-predicting network of the VP frame, with or without a label."""

    def net(x_vp, t_index, y=None):
        level = sigmas[t_index]
        total = (1 + level**2).sqrt()[:, None, None, None]
        x = x_vp * total
        return (x - mixture.denoiser(gc.VE, y)(x, level)) / level[:, None, None, None]

    return net


@pytest.mark.parametrize("path", [gc.VE, gc.FLOW], ids=lambda path: path.name)
def test_paths(path, sigma):
    level = sigma / 4
    assert path.alpha(level).shape == path.log_snr(level).shape == (4,)
    torch.testing.assert_close(path.log_snr(level), 2 * (path.alpha(level) / level).log())


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine"])
def test_training_levels(name):
    sigmas = gc.sigmas_from_betas(gc.betas(name, n=1000))
    assert sigmas.shape == (1000,)
    assert sigmas.dtype == torch.float64
    assert bool((sigmas.diff() > 0).all())


def test_betas_take_their_own_parameters():
    assert float(gc.betas("linear", n=10, start=0.1, end=0.2)[-1]) == 0.2
    assert float(gc.betas("scaled_linear", n=10, start=0.1, end=0.2)[0]) == pytest.approx(0.1)
    assert float(gc.betas("cosine", n=10, max_beta=0.5)[-1]) == 0.5


def test_eps_denoiser(mixture, x):
    sigmas = gc.sigmas_from_betas(gc.betas("linear"))
    denoiser = gc.eps_denoiser(eps_net(sigmas, mixture), sigmas)
    level = sigmas[500].expand(4)
    torch.testing.assert_close(denoiser(x, level), mixture.denoiser(gc.VE)(x, level))
    torch.testing.assert_close(denoiser(x, level, y=LABELS), mixture.denoiser(gc.VE, LABELS)(x, level))


def test_shift_denoised(x):
    grad = torch.ones_like(x)
    torch.testing.assert_close(gc.shift_denoised(x, grad, 2.0), x + 4)
    torch.testing.assert_close(gc.shift_denoised(x, grad, 0.5, path=gc.FLOW, scale=3.0), x + 3 * 0.25 / 0.5)


@pytest.mark.parametrize("path", [gc.VE, gc.FLOW], ids=lambda path: path.name)
def test_log_prob_grad_with_labels(path, mixture, x, sigma):
    grad, log_prob = gc.log_prob_grad(mixture.classifier, x, sigma / 4, LABELS, path=path)
    assert grad.shape == x.shape
    want = mixture.classifier(x, sigma / 4, path).log_softmax(1)[range(4), LABELS]
    torch.testing.assert_close(log_prob, want)


def test_log_prob_grad_with_a_target(mixture, x, sigma):
    target = gc.parse_target("seven, -three", ["one", "three", "seven"])
    grad, log_prob = gc.log_prob_grad(mixture.classifier, x, sigma, target)
    p = mixture.classifier(x, sigma, gc.VE).softmax(1)
    assert grad.shape == x.shape
    torch.testing.assert_close(log_prob, p[:, 2].log() + (1 - p[:, 1]).log())


@pytest.mark.parametrize("method", gc.cfg_methods())
def test_combine(method, x, sigma):
    cond, uncond = x + 1, x - 1
    assert gc.combine(cond, uncond, x, sigma, 3.0, method=method).shape == x.shape
    assert gc.combine(cond, uncond, x, sigma / 4, 3.0, method=method, path=gc.FLOW).shape == x.shape
    torch.testing.assert_close(gc.combine(cond, uncond, x, sigma, 3.0), x + 5)


def test_combine_passes_parameters_on(x, sigma):
    cond, uncond = x + 1, x - x.mean()
    plain = gc.combine(cond, uncond, x, sigma, 3.0)
    torch.testing.assert_close(gc.combine(cond, uncond, x, sigma, 3.0, method="rescale", rescale=0.0), plain)
    assert not torch.allclose(gc.combine(cond, uncond, x, sigma, 3.0, method="rescale", rescale=1.0), plain)


def test_cfg_methods():
    methods = gc.cfg_methods()
    assert {"standard", "rescale", "noisy_condition"} <= methods.keys()
    assert all(isinstance(cls, type) for cls in methods.values())


@pytest.mark.parametrize(
    ("axis", "start", "end", "middle"),
    [("step", 0.0, 1.0, 0.5), ("percent", 0.2, 0.6, 0.4), ("sigma", 10.0, 2.0, 6.0), ("log_snr", -4.0, 4.0, 0.0)],
)
def test_scale_schedule(axis, start, end, middle):
    schedule = gc.ScaleSchedule(shape="cosine", start=start, end=end, low=0.5, high=1.5, axis=axis)
    assert schedule(start) == pytest.approx(0.5)
    assert schedule(middle) == pytest.approx(1.0)


@pytest.mark.parametrize("path", [gc.VE, gc.FLOW], ids=lambda path: path.name)
def test_classifier_guided(path, mixture, x, sigma):
    level = sigma / 4
    guided = gc.classifier_guided(
        mixture.denoiser(path), mixture.classifier, LABELS, scale=1.0, schedule=None, path=path
    )
    torch.testing.assert_close(guided(x, level), mixture.denoiser(path, LABELS)(x, level))


def test_classifier_guided_follows_a_schedule(mixture, x, sigma):
    schedule = gc.ScaleSchedule(shape="interval", start=1.5, end=0.5, axis="sigma")
    guided = gc.classifier_guided(mixture.denoiser(gc.VE), mixture.classifier, LABELS, schedule=schedule)
    torch.testing.assert_close(guided(x, sigma), mixture.denoiser(gc.VE)(x, sigma))
    torch.testing.assert_close(guided(x, sigma / 2), mixture.denoiser(gc.VE, LABELS)(x, sigma / 2))


@pytest.mark.parametrize("path", [gc.VE, gc.FLOW], ids=lambda path: path.name)
@pytest.mark.parametrize("method", gc.cfg_methods())
def test_cfg_guided(path, method, mixture, x, sigma):
    cond, uncond, level = mixture.denoiser(path, LABELS), mixture.denoiser(path), sigma / 4
    guided = gc.cfg_guided(cond, uncond, 3.0, schedule=None, method=method, path=path)
    want = gc.combine(cond(x, level), uncond(x, level), x, level, 3.0, method=method, path=path)
    torch.testing.assert_close(guided(x, level), want)


def test_cfg_guided_passes_parameters_and_schedules_on(mixture, x, sigma):
    cond, uncond = mixture.denoiser(gc.VE, LABELS), mixture.denoiser(gc.VE)
    guided = gc.cfg_guided(cond, uncond, 3.0, method="rescale", rescale=0.0)
    torch.testing.assert_close(guided(x, sigma), gc.combine(cond(x, sigma), uncond(x, sigma), x, sigma, 3.0))
    off = gc.cfg_guided(cond, uncond, 3.0, gc.ScaleSchedule(shape="interval", start=1.0, end=0.5, axis="sigma"))
    torch.testing.assert_close(off(x, sigma), cond(x, sigma))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("path", [gc.VE, gc.FLOW], ids=lambda path: path.name)
def test_sample(sampler, path, mixture):
    noise = mixture.noise(4, seed=1)
    sigmas = gc.karras(0.05, 20.0, 20) if path is gc.VE else gc.flow_shift(20)
    calls = []
    x0 = gc.sample(
        mixture.denoiser(path, LABELS),
        noise,
        sigmas,
        sampler=sampler,
        generator=torch.Generator().manual_seed(0),
        callback=calls.append,
        path=path,
    )
    assert x0.shape == noise.shape
    assert len(calls) == 20
    clean = torch.full((4,), 0.01, dtype=torch.float64)
    assert mixture.classifier(x0, clean, path).argmax(1).tolist() == LABELS.tolist()


def test_sample_needs_nothing_but_a_denoiser_noise_and_sigmas(mixture):
    noise = mixture.noise(2, seed=1)
    ends = [
        gc.sample(mixture.denoiser(gc.VE), noise, gc.karras(0.05, 20.0, 10), **s) for s in ({}, {"sampler": "ddim"})
    ]
    assert torch.equal(*ends)


def test_training_saving_and_loading_a_classifier(tmp_path, randn):
    latents = randn(12, 2, 8, 8, dtype=torch.float32)
    *steps, last = gc.train_classifier(latents, torch.arange(12) % 3, ["a", "b", "c"], steps=3, batch=4)
    assert all(isinstance(step, gc.TrainStep) for step in (*steps, last))
    trained = last.classifier
    assert list(trained.labels) == ["a", "b", "c"]
    trained.save(tmp_path / "abc.safetensors")
    loaded = gc.NoisyClassifier.load(tmp_path / "abc.safetensors")
    level = torch.full((12,), 0.5)
    for path in (gc.VE, gc.FLOW):
        logits = loaded(latents, level, path)
        assert logits.shape == (12, 3)
        assert torch.equal(logits, trained(latents, level, path))
    grad, log_prob = gc.log_prob_grad(loaded, latents, level, gc.parse_target("b, -c", loaded.labels))
    assert (grad.shape, log_prob.shape) == (latents.shape, (12,))


def test_drop_condition():
    y = torch.arange(100)
    dropped = gc.drop_condition(y, 1000, 0.5, torch.Generator().manual_seed(0))
    assert 20 < int((dropped == 1000).sum()) < 80
    assert torch.equal(dropped[dropped != 1000], y[dropped != 1000])
