"""Classifier guidance at scale 1 is Bayes: on a Gaussian mixture it equals the exact conditional, in every frame."""

import pytest
import torch
from mixture import Mixture

import guidance_core as gc
from guidance_core.parameterizations import EPS, VELOCITY, X0, V

MIXTURE = Mixture()
LABELS = torch.tensor([0, 1, 2, 0, 1])
LEVELS = {"VE": (0.05, 0.7, 3.0, 20.0), "VP": (0.05, 0.5, 0.9, 0.999), "flow": (0.05, 0.4, 0.8, 0.99)}
PATHS = {"VE": gc.VE, "VP": gc.VP, "flow": gc.FLOW}
SPACES = {"eps": EPS, "v": V, "velocity": VELOCITY, "denoised": X0}  # the velocity exists on the flow path only
CASES = [(name, sigma) for name in PATHS for sigma in LEVELS[name]]


def noisy(path, sigma):
    x0, _ = MIXTURE.data(len(LABELS), seed=1)
    return path.alpha(torch.tensor(sigma)).double() * x0 + sigma * MIXTURE.noise(len(LABELS), seed=2)


@pytest.mark.parametrize(
    ("name", "sigma", "space"),
    [(*case, space) for case in CASES for space in SPACES if space != "velocity" or case[0] == "flow"],
)
def test_scale_one_is_the_exact_conditional(name, sigma, space):
    path, space = PATHS[name], SPACES[space]
    x, s = noisy(path, sigma), torch.full((len(LABELS),), sigma, dtype=torch.float64)
    guided = gc.classifier_guided(MIXTURE.denoiser(path), MIXTURE.classifier, LABELS, scale=1.0, path=path)
    got = space.output(guided(x, s), x, s, path)
    want = space.output(MIXTURE.denoiser(path, LABELS)(x, s), x, s, path)
    assert (got - want).abs().max() < 1e-10
    unguided = space.output(MIXTURE.denoiser(path)(x, s), x, s, path)
    assert (unguided - want).abs().max() > 1e-6  # the term did something


@pytest.mark.parametrize(("name", "sigma"), CASES)
@pytest.mark.parametrize("scale", [-1.0, 0.5, 3.0])
def test_published_update_in_each_space(name, sigma, scale):
    """score + w g, eps - w sigma g, v - w (sigma / alpha) g on VP, velocity - w t / (1 - t) g: one denoised update."""
    path = PATHS[name]
    x, s = noisy(path, sigma), torch.full((len(LABELS),), sigma, dtype=torch.float64)
    grad, _ = gc.log_prob_grad(MIXTURE.classifier, x, s, LABELS, path)
    before = MIXTURE.denoiser(path)(x, s)
    after = gc.shift_denoised(before, grad, s, path, scale)
    torch.testing.assert_close(EPS.output(after, x, s, path), EPS.output(before, x, s, path) - scale * sigma * grad)
    if path is gc.VP:
        alpha = (1 - sigma**2) ** 0.5
        want = V.output(before, x, s, path) - scale * sigma / alpha * grad
        torch.testing.assert_close(V.output(after, x, s, path), want)
    if path is gc.FLOW:
        want = VELOCITY.output(before, x, s, path) - scale * sigma / (1 - sigma) * grad
        torch.testing.assert_close(VELOCITY.output(after, x, s, path), want)


SIGMAS = {
    "VE": gc.karras(0.02, 40.0, 25),
    "VP": torch.cat([gc.VP.sigma_at(torch.linspace(-8, 8, 25, dtype=torch.float64)), torch.zeros(1).double()]),
    "flow": gc.flow_shift(26, 3.0)[1:],
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "ddpm_large", "euler", "heun", "dpmpp_2m"])
def test_whole_runs_end_where_the_exact_conditional_ends(name, sampler):
    path, sigmas = PATHS[name], SIGMAS[name]
    assert len(sigmas) == 26
    noise = MIXTURE.noise(len(LABELS), seed=3)
    guided = gc.classifier_guided(MIXTURE.denoiser(path), MIXTURE.classifier, LABELS, path=path)
    ends = [
        gc.sample(d, noise, sigmas, sampler, torch.Generator().manual_seed(4), path=path)
        for d in (guided, MIXTURE.denoiser(path, LABELS), MIXTURE.denoiser(path))
    ]
    assert (ends[0] - ends[1]).abs().max() < 1e-8
    assert (ends[0] - ends[2]).abs().max() > 1e-2


@pytest.mark.parametrize("name", PATHS)
def test_cfg_weight_on_a_conditional_model_is_classifier_scale_plus_one(name):
    path = PATHS[name]
    x, s = noisy(path, LEVELS[name][1]), torch.full((len(LABELS),), LEVELS[name][1], dtype=torch.float64)
    cond, uncond = MIXTURE.denoiser(path, LABELS), MIXTURE.denoiser(path)
    cfg = gc.cfg_guided(cond, uncond, 4.0, path=path)(x, s)
    on_uncond = gc.classifier_guided(uncond, MIXTURE.classifier, LABELS, 4.0, path=path)(x, s)
    on_cond = gc.classifier_guided(cond, MIXTURE.classifier, LABELS, 3.0, path=path)(x, s)
    torch.testing.assert_close(cfg, on_uncond)
    torch.testing.assert_close(cfg, on_cond)


@pytest.mark.parametrize("name", PATHS)
def test_networks_of_every_kind_give_the_exact_denoiser(name):
    """eps, v, x0 and flow networks built from the mixture come back as its denoiser."""
    sigmas = gc.sigmas_from_betas(gc.betas("linear"))
    exact = MIXTURE.denoiser(gc.VP)
    if name == "flow":

        def net(x, t):
            return VELOCITY.output(MIXTURE.denoiser(gc.FLOW)(x, t), x, t, gc.FLOW)

        x, s = noisy(gc.FLOW, 0.6), torch.full((len(LABELS),), 0.6, dtype=torch.float64)
        torch.testing.assert_close(gc.flow_denoiser(net)(x, s), MIXTURE.denoiser(gc.FLOW)(x, s))
        return
    for build, space in ((gc.eps_denoiser, EPS), (gc.v_denoiser, V), (gc.x0_denoiser, X0)):

        def net(x, t, space=space):
            sigma = sigmas[t]
            sigma_vp = sigma / (1 + sigma**2).sqrt()
            return space.output(exact(x, sigma_vp), x, sigma_vp, gc.VP)

        for t in (3, 400, 990):
            x, s = noisy(gc.VE, float(sigmas[t])), sigmas[t].expand(len(LABELS))
            want = MIXTURE.denoiser(gc.VE)(x, s)
            got = build(net, sigmas)(x, s)
            torch.testing.assert_close(got, want)
