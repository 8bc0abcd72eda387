"""CFG methods give what public implementations of them give: the guiders of diffusers, on the same predictions."""

import sys
import warnings

import pytest
import torch

import guidance_core as gc
from guidance_core.cfg import Pipeline
from guidance_core.parameterizations import EPS, VELOCITY, V

if sys.version_info < (3, 11):
    pytest.skip("diffusers needs Python 3.11", allow_module_level=True)

with warnings.catch_warnings():  # what it warns of while it loads is not ours
    warnings.simplefilter("ignore")
    from diffusers import guiders
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance
    from diffusers.guiders.classifier_free_zero_star_guidance import cfg_zero_star_scale
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

W = 6.0
SIGMA = 0.6
SHAPES = [(3, 4, 8, 16), (3, 4, 2, 8, 16)]


@pytest.fixture(params=SHAPES, ids=["4d", "5d"])
def predictions(request, randn):
    """x and two predictions whose samples are of unlike sizes and unlike angles to each other."""
    x, c, u = (randn(*request.param, seed=seed) for seed in range(3))
    size = torch.tensor([0.3, 1.0, 2.5]).double().reshape(-1, *[1] * (x.ndim - 1))
    return x, size * c, size * (c + size * u)


def guider(name, *arguments, step=5, **options):
    """A guider of diffusers in the middle of a run: (cond, uncond) -> guided."""
    made = getattr(guiders, name)(*arguments, **options)
    made.set_state(step=step, num_inference_steps=10, timestep=torch.tensor(500))
    return lambda c, u: made.forward(c, u).pred


IN_OUTPUT = {  # a guider on what the network predicts; our method, parameters and tolerance
    "ClassifierFreeGuidance": (lambda: guider("ClassifierFreeGuidance", W), "standard", {}, 1e-9),
    "ClassifierFreeGuidance with guidance_rescale": (
        lambda: guider("ClassifierFreeGuidance", W, guidance_rescale=0.7),
        "rescale",
        {"rescale": 0.7},
        1e-9,
    ),
    "ClassifierFreeZeroStarGuidance": (
        lambda: guider("ClassifierFreeZeroStarGuidance", W),
        "cfg_zero_star",
        {},
        1e-4,  # its s is in single precision
    ),
    "MagnitudeAwareGuidance": (
        # torch's norm takes no three axes, so that the guider knows sequences only
        lambda: lambda c, u: guider("MagnitudeAwareGuidance", W, 3.0)(c.flatten(2), u.flatten(2)).reshape(c.shape),
        "mambo_g",
        {"alpha": 3.0},
        1e-9,
    ),
}


@pytest.mark.parametrize("reference", IN_OUTPUT)
@pytest.mark.parametrize(("path", "space"), [(gc.FLOW, VELOCITY), (gc.VE, EPS), (gc.VP, V)], ids=["flow", "VE", "VP v"])
def test_guiders_on_the_networks_output(reference, path, space, predictions):
    make, method, params, tolerance = IN_OUTPUT[reference]
    x, c, u = predictions
    sigma = torch.full((3,), SIGMA, dtype=torch.float64)
    want = space.denoised(make()(c, u), x, sigma, path)
    denoised = [space.denoised(prediction, x, sigma, path) for prediction in (c, u)]
    got = gc.combine(*denoised, x, SIGMA, W, method, path, space, **params)
    torch.testing.assert_close(got, want, rtol=0, atol=tolerance)


def test_zero_init_of_the_zero_star_guider(predictions):
    """At its first step the guider gives zero, and so does ours; at the next, neither."""
    x, c, u = predictions
    run = Pipeline(W, methods=(gc.cfg_methods()["cfg_zero_star"](),)).start(gc.Run(gc.FLOW, (1.0, 0.8, 0.5, 0.0)))
    for step, level in enumerate((1.0, 0.8)):
        sigma = torch.full((3,), level, dtype=torch.float64)
        want = guider("ClassifierFreeZeroStarGuidance", W, zero_init_steps=1, step=step)(c, u)
        got = run.combine(x - level * c, x - level * u, x, sigma, W)
        torch.testing.assert_close((x - got) / level, want, rtol=0, atol=1e-4)
        assert bool((want == 0).all()) == (step == 0)


def test_s_of_zero_star(predictions):
    """cfg_zero_star_scale."""
    x, c, u = predictions
    s = cfg_zero_star_scale(c.flatten(1), u.flatten(1)).reshape(-1, *[1] * (x.ndim - 1))
    got = gc.combine(x - SIGMA * c, x - SIGMA * u, x, SIGMA, 0.0, "cfg_zero_star", gc.FLOW)
    torch.testing.assert_close(got, x - SIGMA * s * u, rtol=0, atol=1e-5)


def test_tangential_guider_on_the_score(path, predictions):
    """TangentialClassifierFreeGuidance, by singular values in single precision."""
    x, c, u = predictions
    alpha = float(path.alpha(SIGMA))
    want = guider("TangentialClassifierFreeGuidance", W)(c, u)  # of eps, which is a multiple of the score
    got = gc.combine((x - SIGMA * c) / alpha, (x - SIGMA * u) / alpha, x, SIGMA, W, "tcfg", path)
    torch.testing.assert_close((x - alpha * got) / SIGMA, want, rtol=0, atol=1e-3)


@pytest.mark.parametrize("share", [0.1, 4 / 9, 1.5])
def test_frequency_decoupled_guider(path, share, predictions):
    """FrequencyDecoupledGuidance([high, low]), whose pyramid is kornia's; the paper's [10, 5] is a share of 4/9."""
    x, c, u = predictions
    reference = guider("FrequencyDecoupledGuidance", [10.0, 1 + 9 * share])
    frames = [t.transpose(1, 2).flatten(0, 1) if t.ndim == 5 else t for t in (c, u)]
    want = reference(*frames)
    want = want.unflatten(0, (3, -1)).transpose(1, 2) if c.ndim == 5 else want
    torch.testing.assert_close(gc.combine(c, u, x, SIGMA, 10.0, "fdg", path, low=share), want)


@pytest.mark.parametrize(("eta", "threshold", "momentum"), [(0.0, 15.0, -0.5), (0.4, 0.0, 0.3), (1.0, 2.0, 0.0)])
def test_projected_guider_over_a_run(path, eta, threshold, momentum, predictions):
    """normalized_guidance and MomentumBuffer of AdaptiveProjectedGuidance, in the paper's form: from cond, at w - 1."""
    x, c, u = predictions
    buffer = MomentumBuffer(momentum)
    method = gc.cfg_methods()["apg"](eta=eta, norm_threshold=threshold, momentum=momentum)
    run = Pipeline(W, methods=(method,)).start(gc.Run(path))
    for step, level in enumerate((0.9, 0.6, 0.3)):
        c, u = c.roll(step, -1), u.roll(2 * step, -2)
        want = normalized_guidance(c, u, W - 1, buffer, eta, threshold, use_original_formulation=True)
        got = run.combine(c, u, x, torch.full((3,), level, dtype=torch.float64), W)
        torch.testing.assert_close(got, want)


def test_auto_guider(path, predictions):
    """AutoGuidance, on the predictions of a model and of a weaker one."""
    x, c, weak = predictions
    want = guider("AutoGuidance", W, auto_guidance_layers=0, dropout=0.1)(c, weak)
    got = gc.combine(c, torch.zeros_like(c), x, SIGMA, W, "autoguidance", path, weak=lambda x, sigma: weak)
    torch.testing.assert_close(got, want)


WEAKER = {  # diffusers' guiders that lead away from a weaker self: their scales, and the blocks that they would ask for
    "PerturbedAttentionGuidance": ("perturbed_guidance_scale", "perturbed_guidance_stop", "perturbed_guidance_layers"),
    "SkipLayerGuidance": ("skip_layer_guidance_scale", "skip_layer_guidance_stop", "skip_layer_guidance_layers"),
    "SmoothedEnergyGuidance": ("seg_guidance_scale", "seg_guidance_stop", "seg_guidance_layers"),
}


@pytest.mark.parametrize("name", WEAKER)
@pytest.mark.parametrize("cfg", [1.0, W])
def test_guiders_that_lead_away_from_a_weaker_self(path, name, cfg, predictions):
    """In the papers' form: cond, (w - 1) (cond - uncond) and s (cond - weak), at CFG 1 without a second condition."""
    x, c, u = predictions
    weak = u.flip(0) + c / 2
    scale, stop, layers = WEAKER[name]
    made = getattr(guiders, name)(cfg - 1, use_original_formulation=True, **{scale: 2.5, stop: 1.0, layers: 0})
    made.set_state(step=5, num_inference_steps=10, timestep=torch.tensor(500))
    want = made.forward(c, u if cfg != 1 else None, weak).pred
    term = gc.SelfGuidance(lambda x, sigma: weak, 2.5)
    guided = gc.cfg_guided(lambda x, sigma: c, lambda x, sigma: u, cfg, path=path, terms=[term])
    torch.testing.assert_close(guided(x, torch.full((3,), SIGMA, dtype=torch.float64)), want)


@pytest.mark.parametrize("percentile", [0.7, 0.995])
def test_threshold_of_the_ddpm_scheduler(path, percentile, predictions):
    """DDPMScheduler._threshold_sample, with no upper bound of its own."""
    x, c, u = predictions
    scheduler = DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=percentile, sample_max_value=1e6)
    want = scheduler._threshold_sample(u + W * (c - u))
    params = {"percentile": percentile, "mimic_scale": 0.0}
    torch.testing.assert_close(gc.combine(c, u, x, SIGMA, W, "dynamic_threshold", path, **params), want)
