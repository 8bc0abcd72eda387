"""Each CFG method is its paper's formula, written anew: sample by sample, in the paper's space, over whole runs.

`c`, `u` and `w` are the paper's conditional and unconditional prediction and its scale.
"""

import math
from dataclasses import dataclass

import pytest
import torch
from mixture import Mixture
from torch.nn import functional as F

import guidance_core as gc
from guidance_core.cfg import Pipeline
from guidance_core.parameterizations import EPS, VELOCITY, Edm, Parameterization, V

METHODS = gc.cfg_methods()
SHAPES = [(3, 4, 6, 8), (3, 4, 2, 6, 8)]  # pictures, video


@dataclass(frozen=True)
class Native:
    """What a network predicts, on a path at one noise level: denoised = a * x + b * prediction, from the papers."""

    path: gc.NoisePath
    sigma: float
    space: Parameterization
    a: float
    b: float

    def denoised(self, x, prediction):
        return self.a * x + self.b * prediction

    def prediction(self, x, denoised):
        return (denoised - self.a * x) / self.b


# VP at sigma 0.6 has alpha 0.8; v and EDM: arXiv:2202.00512, appendix D, and arXiv:2206.00364, table 1
NATIVE = {
    "eps on VE": Native(gc.VE, 1.5, EPS, 1.0, -1.5),
    "eps on VP": Native(gc.VP, 0.6, EPS, 1 / 0.8, -0.6 / 0.8),
    "v on VP": Native(gc.VP, 0.6, V, 0.8, -0.6),
    "v on VE": Native(gc.VE, 1.5, V, 1 / 3.25, -1.5 / 3.25**0.5),
    "velocity": Native(gc.FLOW, 0.6, VELOCITY, 1.0, -0.6),
    "F of EDM": Native(gc.VE, 1.5, Edm(0.5), 0.25 / 2.5, 1.5 * 0.5 / 2.5**0.5),
}


@pytest.fixture(params=NATIVE)
def native(request):
    return NATIVE[request.param]


@pytest.fixture(params=SHAPES, ids=["4d", "5d"])
def shape(request):
    return request.param


@pytest.fixture
def given(randn):
    """given(shape, seed): x and two predictions whose samples are of unlike sizes and unlike angles to each other."""

    def draw(shape=SHAPES[0], seed=0):
        x, c, u = (randn(*shape, seed=seed + i) for i in range(3))
        size = torch.tensor([0.3, 1.0, 2.5]).double().reshape(-1, *[1] * (len(shape) - 1))
        turn = torch.tensor([0.1, 0.6, 2.0]).double().reshape(size.shape)
        return x, size * c, size * (c + turn * u)

    return draw


def each(formula, *batches):
    """The formula of one sample, for every sample of the batches."""
    return torch.stack([formula(*samples) for samples in zip(*batches, strict=True)])


def cfg(c, u, w):
    """Ho & Salimans 2022, arXiv:2207.12598, with w = 1 for off."""
    return u + w * (c - u)


def parallel(a, b):
    """The part of a along b."""
    return (a * b).sum() / (b * b).sum() * b


# --- methods that are formulas of the network's own output ---


def rescale(c, u, w):
    """arXiv:2305.08891, eq. 15-16, phi = 0.7."""
    g = cfg(c, u, w)
    return 0.7 * (g * c.std() / g.std()) + 0.3 * g


def norm_cap(c, u, w):
    """arXiv:2503.21758: the guided output is scaled down to the norm of the conditional one, here times 1.2."""
    g = cfg(c, u, w)
    most = 1.2 * c.norm()
    return g * most / g.norm() if g.norm() > most else g


def cfg_norm(c, u, w):
    """arXiv:2508.02324: at each place the guided channels get the norm of the conditional ones."""
    g = cfg(c, u, w)
    full = g * c.square().sum(0).sqrt() / g.square().sum(0).sqrt()
    return 0.8 * full + 0.2 * g


def mambo_g(c, u, w):
    """arXiv:2508.03442: the scale falls with |c - u| / |u|."""
    return cfg(c, u, 1 + (w - 1) * math.exp(-8 * float((c - u).norm() / u.norm())))


def cfg_zero_star(c, u, w):
    """arXiv:2503.18886: (1 - w) s u + w c with s = <c, u> / |u|^2."""
    s = float((c * u).sum() / (u.square().sum() + 1e-8))
    return (1 - w) * s * u + w * c


IN_OUTPUT = {
    "standard": (cfg, {}),
    "rescale": (rescale, {"rescale": 0.7}),
    "norm_cap": (norm_cap, {"cap": 1.2}),
    "cfg_norm": (cfg_norm, {"strength": 0.8}),
    "mambo_g": (mambo_g, {"alpha": 8.0}),
    "cfg_zero_star": (cfg_zero_star, {}),
}


@pytest.mark.parametrize("method", IN_OUTPUT)
@pytest.mark.parametrize("w", [2.0, 7.5])
def test_formula_in_the_networks_own_output(method, w, native, shape, given):
    formula, params = IN_OUTPUT[method]
    x, c, u = given(shape)
    want = native.denoised(x, each(lambda c, u: formula(c, u, w), c, u))
    denoised = (native.denoised(x, c), native.denoised(x, u))
    got = gc.combine(*denoised, x, native.sigma, w, method, native.path, native.space, **params)
    torch.testing.assert_close(got, want)


def test_norm_cap_leaves_a_sample_below_the_cap_alone(given):
    x, c, u = given()
    plain = gc.combine(c, u, x, 1.5, 2.0)
    for cap in (0.5, 10.0):
        got = gc.combine(c, u, x, 1.5, 2.0, "norm_cap", cap=cap)
        same = [torch.allclose(a, b) for a, b in zip(got, plain, strict=True)]
        assert same == [cap == 10.0] * 3


def test_zero_star_with_s_of_one_is_plain_guidance(native, shape, given):
    """s = 1 where u is the part of c along some direction."""
    x, c, direction = given(shape)
    u = each(parallel, c, direction)
    denoised = (native.denoised(x, c), native.denoised(x, u), x, native.sigma, 6.0)
    got = gc.combine(*denoised, "cfg_zero_star", native.path, native.space)
    torch.testing.assert_close(got, gc.combine(*denoised, path=native.path), rtol=0, atol=1e-6)


RUNS = {  # pure noise first
    "VE": (gc.VE, lambda n: gc.karras(0.05, 40.0, n)),
    "VP": (gc.VP, lambda n: (lambda s: s / (1 + s**2).sqrt())(gc.karras(0.05, 40.0, n))),
    "flow": (gc.FLOW, lambda n: gc.flow_shift(n, 2.0)),
}


@pytest.fixture(params=RUNS)
def run(request):
    """(path, n -> sigmas of a run of n steps from pure noise)."""
    return RUNS[request.param]


@pytest.fixture
def pair(mixture):
    """pair(path): exact conditional and unconditional denoisers of three samples of three classes."""
    return lambda path: (mixture.denoiser(path, torch.tensor([0, 1, 2])), mixture.denoiser(path))


@pytest.mark.parametrize(("steps", "zero_init", "idle"), [(10, 0.04, 1), (25, 0.04, 1), (50, 0.04, 2), (10, 0.25, 3)])
@pytest.mark.parametrize(("path", "sigmas"), [RUNS["VE"], RUNS["flow"]], ids=["VE", "flow"])
def test_zero_init_leaves_x_where_it_is_at_the_first_steps(steps, zero_init, idle, path, sigmas, pair, mixture):
    """The first 4 % of the steps, one at least, return an output of zero (arXiv:2503.18886, algorithm 1)."""
    guided = gc.cfg_guided(*pair(path), 3.0, method="cfg_zero_star", path=path, zero_init=zero_init)
    sigmas = sigmas(steps)
    noise = mixture.noise(3, seed=1)
    places = [noise * sigmas[0]]
    gc.sample(guided, noise, sigmas, "euler", path=path, callback=lambda step: places.append(step.x))
    stayed = [bool(torch.allclose(a, b, atol=1e-9)) for a, b in zip(places, places[1:], strict=False)]
    assert stayed == [i < idle for i in range(steps)]


@pytest.mark.parametrize("path", [gc.VE, gc.FLOW], ids=["VE", "flow"])
def test_no_zero_init_in_a_run_that_begins_in_a_picture(path, pair, mixture):
    """The second half of a run is the second half of the whole one, but for the waiting at its beginning."""
    guided = gc.cfg_guided(*pair(path), 3.0, method="cfg_zero_star", path=path)
    never = gc.cfg_guided(*pair(path), 3.0, method="cfg_zero_star", path=path, zero_init=0.0)
    noise, sigmas = mixture.noise(3, seed=1), torch.tensor([0.7, 0.5, 0.3, 0.1, 0.0]).double()
    assert torch.equal(gc.sample(guided, noise, sigmas, path=path), gc.sample(never, noise, sigmas, path=path))


# --- methods that are formulas of the denoised prediction ---


def apg(c, u, w):
    """arXiv:2410.02416, algorithm 1 at its first step: r = 2, eta = 0.3."""
    d = c - u
    d = d * min(1.0, 2 / float(d.norm()))
    along = parallel(d, c)
    return c + (w - 1) * (d - along + 0.3 * along)


def pyramid(a):
    """(detail, coarse) of a [C, H, W]: arXiv:2506.19713, algorithm 2, with the Laplacian pyramid of two levels."""
    coarse = F.avg_pool2d(blur(a), 2)
    return a - blown_up(coarse), coarse


def blur(a):
    window = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=a.dtype)
    kernel = torch.outer(window, window)[None, None] / 256
    return F.conv2d(F.pad(a[:, None], (2, 2, 2, 2), mode="reflect"), kernel)[:, 0]


def blown_up(a):
    return blur(F.interpolate(a[None], scale_factor=2, mode="bilinear", align_corners=False)[0])


def fdg(c, u, w):
    """arXiv:2506.19713: CFG in each band; w for detail, 1 + 0.25 (w - 1) for what is coarse."""
    if c.ndim == 4:  # video, frame by frame
        return torch.stack([fdg(c[:, i], u[:, i], w) for i in range(c.shape[1])], 1)
    (c_detail, c_coarse), (u_detail, u_coarse) = pyramid(c), pyramid(u)
    return cfg(c_detail, u_detail, w) + blown_up(cfg(c_coarse, u_coarse, 1 + 0.25 * (w - 1)))


def imagen(c, u, w):
    """arXiv:2205.11487, section 2.3: s = max(1, the percentile of |x0|); x0 = clip(x0, -s, s) / s."""
    g = cfg(c, u, w)
    s = max(1.0, float(torch.quantile(g.abs().flatten(), 0.9)))
    return g.clip(-s, s) / s


def mimic(c, u, w):
    """Each channel about its mean: clipped at its percentile, or at the mimicked range where that is wider; then that
    range in the place of its own."""
    channels = []
    for strong, calm in zip(cfg(c, u, w), cfg(c, u, 2.0), strict=True):
        most = float((calm - calm.mean()).abs().max())
        centred = strong - strong.mean()
        q = max(float(torch.quantile(centred.abs().flatten(), 0.9)), most)
        channels.append(strong.mean() + centred.clip(-q, q) * most / q)
    return torch.stack(channels)


CHANNELS = (0.5, 1.0, -1.0, 2.0)
MASK = torch.rand(6, 8, generator=torch.Generator().manual_seed(9))


def regional(c, u, w):
    """Element by element, the scale 1 + (w - 1) * weight; weight is 1 where the mask is white, 0.4 where black."""
    guided = torch.empty_like(c)
    for channel, weight in enumerate(CHANNELS):
        for row in range(6):
            for column in range(8):
                mask = float(MASK[row, column])
                scale = 1 + (w - 1) * weight * (mask + 0.4 * (1 - mask))
                place = (channel, ..., row, column)
                guided[place] = cfg(c[place], u[place], scale)
    return guided


IN_DENOISED = {
    "apg": ("apg", apg, {"eta": 0.3, "norm_threshold": 2.0, "momentum": 0.7}),
    "fdg": ("fdg", fdg, {"low": 0.25}),
    "dynamic threshold of Imagen": ("dynamic_threshold", imagen, {"percentile": 0.9, "mimic_scale": 0.0}),
    "dynamic threshold by channel": ("dynamic_threshold", mimic, {"percentile": 0.9, "mimic_scale": 2.0}),
    "regional": ("regional", regional, {"outside": 0.4, "channels": "0.5, 1, -1, 2", "mask": MASK}),
}


@pytest.mark.parametrize("form", IN_DENOISED)
@pytest.mark.parametrize("w", [2.0, 7.5])
def test_formula_in_denoised(form, w, path, shape, given):
    method, formula, params = IN_DENOISED[form]
    x, c, u = given(shape)
    want = each(lambda c, u: formula(c, u, w), c, u)
    torch.testing.assert_close(gc.combine(c, u, x, 0.6, w, method, path, **params), want)


def test_apg_guides_from_the_conditional_prediction(given):
    """c + (w - 1) d, and not u + w d, which is another thing as soon as d is not c - u any more."""
    x, c, u = given()
    got = gc.combine(c, u, x, 0.6, 5.0, "apg", eta=0.0, norm_threshold=0.0, momentum=0.0)
    d = each(lambda c, u: (c - u) - parallel(c - u, c), c, u)
    torch.testing.assert_close(got, c + 4 * d)
    assert float((u + 5 * d - got).abs().max()) > 0.1


def test_apg_switched_off_is_plain_guidance_over_a_whole_run(run, pair, mixture):
    path, sigmas = run
    noise, sigmas = mixture.noise(3, seed=1), sigmas(12)
    neutral = gc.cfg_guided(*pair(path), 3.0, method="apg", path=path, eta=1.0, norm_threshold=0.0, momentum=0.0)
    plain = gc.cfg_guided(*pair(path), 3.0, path=path)
    torch.testing.assert_close(gc.sample(neutral, noise, sigmas, path=path), gc.sample(plain, noise, sigmas, path=path))


@pytest.mark.parametrize("beta", [-0.5, 0.6])
@pytest.mark.parametrize("method", ["apg", "momentum"])
def test_momentum_runs_over_the_steps_of_a_run(method, beta, path, shape, given):
    """d_t = (c_t - u_t) + beta d_(t-1), the average that APG projects (arXiv:2410.02416, algorithm 1)."""
    params = {"momentum": beta} | ({"eta": 0.3, "norm_threshold": 2.0} if method == "apg" else {})
    levels = (0.9, 0.7, 0.4, 0.0)
    ours = Pipeline(4.0, methods=(METHODS[method](**params),)).start(gc.Run(path, levels))
    running = [0.0] * 3
    for step, level in enumerate(levels[:-1]):
        x, c, u = given(shape, seed=10 * step)
        want = []
        for i in range(3):
            running[i] = d = (c[i] - u[i]) + beta * running[i]
            if method == "apg":
                d = d * min(1.0, 2 / float(d.norm()))
                along = parallel(d, c[i])
                d = d - along + 0.3 * along
            want.append(c[i] + 3 * d)
        got = ours.combine(c, u, x, torch.full((3,), level, dtype=torch.float64), 4.0)
        torch.testing.assert_close(got, torch.stack(want))


def test_the_bands_of_fdg_recombine_exactly(path, shape, given):
    """With one scale for both it is plain guidance; and the bands' parts of the guidance add up to all of it."""
    x, c, u = given(shape)
    plain, coarse, even = (gc.combine(c, u, x, 0.6, 5.0, "fdg", path, low=low) for low in (1.0, 0.0, 2.0))
    torch.testing.assert_close(plain, cfg(c, u, 5.0))
    torch.testing.assert_close(coarse + even, 2 * plain)  # linear in the share of the low band


@pytest.mark.parametrize("size", [(5, 7), (2, 9), (1, 1), (16, 3)])
def test_fdg_takes_any_size(size, randn):
    c, u = randn(2, 3, *size, seed=1), randn(2, 3, *size, seed=2)
    torch.testing.assert_close(gc.combine(c, u, c, 0.6, 5.0, "fdg", low=1.0), cfg(c, u, 5.0))
    flat = gc.combine(u + 1, u, u, 0.6, 5.0, "fdg", low=0.0)
    torch.testing.assert_close(flat, u + 1)  # an even shift is all coarse: nothing of it is guided


def test_masks_repeat_over_the_batch_and_are_fitted(randn):
    masks = torch.stack([torch.zeros(3, 4), torch.ones(3, 4)])
    c, u = randn(4, 2, 6, 8, seed=1), randn(4, 2, 6, 8, seed=2)
    got = gc.combine(c, u, c, 0.6, 5.0, "regional", mask=masks, outside=0.5)
    torch.testing.assert_close(got[0::2], cfg(c, u, 3.0)[0::2])
    torch.testing.assert_close(got[1::2], cfg(c, u, 5.0)[1::2])


# --- methods that are formulas of eps or of the score ---


def test_tcfg_is_its_singular_value_form(native, shape, given):
    """arXiv:2503.18137: of the score under no condition only the part along the first right-singular vector is kept."""
    path, sigma = native.path, native.sigma
    alpha = float(path.alpha(sigma))

    def formula(x, c, u):
        s_c, s_u = ((alpha * native.denoised(x, p) - x) / sigma**2 for p in (c, u))
        first = torch.linalg.svd(torch.stack([s_c.flatten(), s_u.flatten()]), full_matrices=False).Vh[0]
        s_u = (s_u.flatten() @ first * first).reshape(x.shape)
        return (x + sigma**2 * cfg(s_c, s_u, 5.0)) / alpha

    x, c, u = given(shape)
    denoised = (native.denoised(x, c), native.denoised(x, u))
    got = gc.combine(*denoised, x, sigma, 5.0, "tcfg", path, native.space)
    torch.testing.assert_close(got, each(formula, x, c, u))


@pytest.mark.parametrize("k", [0.0, 1.0, 2.5])
def test_perp_neg_is_its_formula_in_eps(k, path, shape, given, randn):
    """arXiv:2304.04968: e + w (p - k (n - <n, p> / |p|^2 p)) with p = c - e, n = negative - e."""
    sigma, w = 0.6, 5.0
    alpha = float(path.alpha(sigma))
    x, c, negative = given(shape)
    e = randn(*shape, seed=8)

    def formula(c, negative, e):
        p, n = c - e, negative - e
        return e + w * (p - k * (n - (n * p).sum() / (p * p).sum() * p))

    def denoised(eps):
        return (x - sigma * eps) / alpha

    want = denoised(each(formula, c, negative, e))
    for empty in (denoised(e), lambda x, sigma: denoised(e)):  # a ready prediction, or what predicts
        got = gc.combine(denoised(c), denoised(negative), x, sigma, w, "perp_neg", path, neg_scale=k, empty=empty)
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("share", [-2.0, 0.5, 1.0, 3.0])
def test_perp_neg_with_a_parallel_negative_is_plain_guidance_against_empty(share, path, given, randn):
    x, c, _ = given()
    e = randn(*x.shape, seed=8)
    got = gc.combine(c, e + share * (c - e), x, 0.6, 5.0, "perp_neg", path, neg_scale=2.0, empty=e)
    torch.testing.assert_close(got, cfg(c, e, 5.0))


def test_autoguidance_leads_away_from_the_weak_model_and_runs_nothing_else(path, mixture, counted):
    """arXiv:2406.02507, eq. 3: D = weak + w (strong - weak)."""
    labels = torch.tensor([0, 1, 2])
    strong, weak = mixture.denoiser(path, labels), Mixture(seed=1).denoiser(path, labels)
    strong, weak, uncond = counted(strong), counted(weak), counted(mixture.denoiser(path))
    guided = gc.cfg_guided(strong, uncond, 2.0, method="autoguidance", path=path, weak=weak)
    want = gc.cfg_guided(strong, weak, 2.0, path=path)
    noise = mixture.noise(3, seed=1)
    sigmas = torch.tensor([0.95, 0.8, 0.5, 0.2, 0.0]).double()
    got = gc.sample(guided, noise, sigmas, path=path)
    assert [len(d.calls) for d in (strong, weak, uncond)] == [4, 4, 0]
    torch.testing.assert_close(got, gc.sample(want, noise, sigmas, path=path))
    x = noise * 0.8
    torch.testing.assert_close(guided(x, 0.8), weak(x, 0.8) + 2 * (strong(x, 0.8) - weak(x, 0.8)))


# --- methods that follow the run ---


def ddim_step(x, denoised, eps, path, after):
    """From any level to `after`, with the noise eps."""
    return float(path.alpha(after)) * denoised + after * eps


@pytest.mark.parametrize("scale", [2.5, 7.5])
def test_cfg_plus_plus_is_its_own_sampler(scale, run, pair, mixture):
    """arXiv:2406.08070, algorithm 2: x0 = u + lam (c - u), noise again with u's eps; against DDIM with our method."""
    path, sigmas = run
    cond, uncond = pair(path)
    noise, sigmas, lam = mixture.noise(3, seed=1), sigmas(25), scale / 12.5
    x = noise * sigmas[0]
    for sigma, after in zip(sigmas.tolist(), sigmas.tolist()[1:], strict=False):
        level = torch.full((3,), sigma, dtype=torch.float64)
        c, u = cond(x, level), uncond(x, level)
        eps = (x - float(path.alpha(sigma)) * u) / sigma
        x = ddim_step(x, u + lam * (c - u), eps, path, after)
    guided = gc.cfg_guided(cond, uncond, scale, method="cfg_pp", path=path)
    got = gc.sample(guided, noise, sigmas, "ddim", path=path)
    torch.testing.assert_close(got, x, rtol=0, atol=1e-8)
    plain = gc.sample(gc.cfg_guided(cond, uncond, scale, path=path), noise, sigmas, "ddim", path=path)
    assert float((got - plain).abs().max()) > 0.01


def v_of(path, x, denoised, sigma):
    """v in the VP frame (arXiv:2202.00512); on flow the velocity."""
    if path is gc.FLOW:
        return (x - denoised) / sigma
    alpha = float(path.alpha(sigma))
    total = (alpha**2 + sigma**2) ** 0.5
    return alpha / total * (x - alpha * denoised) / sigma - sigma / total * denoised


@pytest.mark.parametrize("gamma", [0.98, 0.995])
@pytest.mark.parametrize(
    ("path", "highest"), [(gc.VE, 3.0), (gc.VP, 0.95), (gc.FLOW, 1.0)], ids=lambda value: getattr(value, "name", "")
)
def test_adaptive_drops_the_unconditional_passes_after_the_crossing(gamma, path, highest, pair, mixture, counted):
    """arXiv:2312.12487, section 5: guided up to the step whose cosine passes gamma, conditional after it."""
    cond, uncond = (counted(denoiser) for denoiser in pair(path))
    noise, sigmas = mixture.noise(3, seed=4), torch.linspace(highest, 0, 31, dtype=torch.float64)
    x, stopped, asked = noise * sigmas[0], [False] * 3, 0
    for sigma, after in zip(sigmas.tolist(), sigmas.tolist()[1:], strict=False):
        level = torch.full((3,), sigma, dtype=torch.float64)
        c, u = pair(path)[0](x, level), pair(path)[1](x, level)
        asked += not all(stopped)
        denoised = torch.stack([c[i] if stopped[i] else cfg(c[i], u[i], 4.0) for i in range(3)])
        for i in range(3):
            a, b = (v_of(path, x[i], prediction[i], sigma).flatten() for prediction in (c, u))
            stopped[i] = stopped[i] or float(F.cosine_similarity(a, b, dim=0)) > gamma
        x = ddim_step(x, denoised, (x - float(path.alpha(sigma)) * denoised) / sigma, path, after)
    guided = gc.cfg_guided(cond, uncond, 4.0, method="adaptive", path=path, gamma=gamma)
    torch.testing.assert_close(gc.sample(guided, noise, sigmas, path=path), x)
    assert (len(cond.calls), len(uncond.calls)) == (30, asked)
    assert uncond.calls == cond.calls[:asked]
    assert 1 < asked < 30


def test_adaptive_guides_an_eps_network_from_the_noisiest_level(counted, randn):
    """At sigma 14.6 the eps of any two predictions have a cosine near 1; by default guidance goes on all the same."""
    x0, other = randn(2, 4, 8, 8, seed=1), randn(2, 4, 8, 8, seed=2)
    noise, sigmas = randn(2, 4, 8, 8, seed=3), gc.karras(0.03, 14.6, 20)
    eps = [((14.6 * noise - denoised) / 14.6).flatten(1) for denoised in (x0, other)]
    assert (F.cosine_similarity(*eps) > 0.991).all()
    uncond = counted(lambda x, sigma: other)
    gc.sample(gc.cfg_guided(lambda x, sigma: x0, uncond, 6.0, method="adaptive", output=EPS), noise, sigmas)
    assert len(uncond.calls) > 5  # in eps it would be 1


def test_adaptive_does_not_stop_because_all_is_noise(mixture, counted):
    """On flow at sigma 1 the eps of any two predictions is x itself; their velocities tell them apart."""
    cond, uncond = mixture.denoiser(gc.FLOW, torch.tensor([0])), counted(mixture.denoiser(gc.FLOW))
    guided = gc.cfg_guided(cond, uncond, 4.0, method="adaptive", path=gc.FLOW)
    gc.sample(guided, mixture.noise(1, seed=1), gc.flow_shift(20, 3.0), path=gc.FLOW)
    assert len(uncond.calls) > 1


@pytest.fixture
def even():
    """The mixture with classes that are equally likely beforehand, as feedback takes them to be."""
    mixture = Mixture()
    mixture.weights = torch.full_like(mixture.weights, 1 / len(mixture.weights))
    return mixture


@dataclass(frozen=True)
class Named:
    """A mixture's exact classifier, with names of its labels."""

    mixture: Mixture
    labels, head = ("a", "b", "c"), "single"

    def __call__(self, x, sigma, path):
        return self.mixture.classifier(x, sigma, path)


def log_densities(mixture, x, sigma, path):
    """log p(x | the label b) and log p(x), but for one constant; [B] each."""
    log_joint = mixture.classifier(x, sigma, path)
    return log_joint[:, 1] + math.log(3), log_joint.logsumexp(1)


@pytest.mark.parametrize("mixing", [0.5, 0.9])
@pytest.mark.parametrize("most", [1.5, 100.0])
def test_feedback_with_an_exact_classifier_is_the_closed_form(mixing, most, path, even):
    """arXiv:2506.06085: lambda = r / (r - (1 - pi)) with r = p(x | c) / p(x), and no more than the scale."""
    x, sigma = 1.5 * even.noise(64, seed=3), 0.7
    c, u = even.denoiser(path, torch.ones(64))(x, sigma), even.denoiser(path)(x, sigma)
    got = gc.combine(c, u, x, sigma, most, "feedback", path, mixing=mixing, classifier=Named(even), target="b")
    capped = 0
    for i, (log_c, log_x) in enumerate(zip(*log_densities(even, x, sigma, path), strict=True)):
        r = math.exp(log_c - log_x)
        scale = r / (r - (1 - mixing)) if r > 1 - mixing else math.inf
        capped += scale > most
        torch.testing.assert_close(got[i], cfg(c[i], u[i], min(scale, most)))
    assert 0 < capped < 64


def test_feedback_undoes_the_mixing_it_supposes(path, even):
    """What the scale is for: where p(x|c) = pi q(x) + (1 - pi) p(x), guidance gives exactly the denoised of q."""
    mixing, sigma = 0.6, 0.7
    x = (1.5 * even.noise(64, seed=3)).requires_grad_()
    log_c, log_x = log_densities(even, x, sigma, path)
    kept = (log_c - log_x).detach() > math.log(1 - mixing) + 0.05  # q is positive, and the scale below its cap
    q = log_c + torch.log1p(-(1 - mixing) * (log_x - log_c).exp().where(kept, 0))
    (score,) = torch.autograd.grad(q.sum(), x)
    x = x.detach()
    c, u = even.denoiser(path, torch.ones(64))(x, sigma), even.denoiser(path)(x, sigma)
    got = gc.combine(c, u, x, sigma, 100.0, "feedback", path, mixing=mixing, classifier=Named(even), target="b")
    want = (x + sigma**2 * score) / float(path.alpha(sigma))
    assert int(kept.sum()) > 10
    torch.testing.assert_close(got[kept], want[kept])


def tracked_run(path, sigmas, x, cond, uncond, most, mixing, t0, t1):
    """DDIM under feedback guidance whose posterior is followed along the run (arXiv:2506.06085, algorithm 1 and
    section 4), in the paper's frame, y = x / alpha and s = sigma / alpha. Returns the last x and all scales, [n, B]."""
    steps = len(sigmas) - 1
    s = [sigma / float(path.alpha(sigma)) for sigma in sigmas]

    def kernel(i):
        """Variance of p(y_(i+1) | y_i, y_0)."""
        return (s[i] ** 2 - s[i + 1] ** 2) * s[i + 1] ** 2 / s[i] ** 2

    offset = math.log((1 - mixing) * 3 / (3 - 1)) / ((1 - t0) * steps)
    time = t1 * steps  # counted from the clean end, where the step to 0 is at time 0
    earlier, later = kernel(steps - 1 - math.floor(time)), kernel(steps - 2 - math.floor(time))
    temperature = abs(2 / 10 * (earlier + (time - math.floor(time)) * (later - earlier)) * offset)

    log_posterior, scales = [0.0] * len(x), []
    for i in range(steps):
        level = torch.full((len(x),), sigmas[i], dtype=torch.float64)
        c, u = cond(x, level), uncond(x, level)
        scales.append([math.exp(p) / (math.exp(p) - (1 - mixing)) for p in log_posterior])
        denoised = torch.stack([cfg(*pair) for pair in zip(c, u, scales[-1], strict=True)])
        alpha = float(path.alpha(sigmas[i]))
        y, x = x / alpha, ddim_step(x, denoised, (x - alpha * denoised) / sigmas[i], path, sigmas[i + 1])
        if i == steps - 1:
            return x, torch.tensor(scales)
        y_next, keep = x / float(path.alpha(sigmas[i + 1])), s[i + 1] ** 2 / s[i] ** 2
        for k in range(len(x)):
            mean_c, mean_u = (keep * y[k] + (1 - keep) * prediction[k] for prediction in (c, u))
            gap = (y_next[k] - mean_c).square().sum() - (y_next[k] - mean_u).square().sum()
            moved = log_posterior[k] - temperature / (2 * kernel(i)) * float(gap) + offset
            log_posterior[k] = min(max(moved, math.log((1 - mixing) * most / (most - 1))), 3.0)
    raise AssertionError("a run without steps")


@pytest.mark.parametrize(
    ("mixing", "t0", "t1", "most"), [(0.95, 0.5, 0.35, 8.0), (0.8, 0.7, 0.6, 3.0), (0.95, 0.9, 0.95, 8.0)]
)
def test_feedback_that_tracks_the_run_is_the_papers_posterior(mixing, t0, t1, most, run, pair, mixture):
    path, sigmas = run
    sigmas = [min(sigma, 0.995) if path is gc.FLOW else sigma for sigma in sigmas(23).tolist()]
    noise = mixture.noise(3, seed=1)
    want, scales = tracked_run(path, sigmas, noise * sigmas[0], *pair(path), most, mixing, t0, t1)
    given = {"mixing": mixing, "undecided": t0, "decided": t1}
    guided = gc.cfg_guided(*pair(path), most, method="feedback", path=path, **given)
    got = gc.sample(guided, noise, torch.tensor(sigmas, dtype=torch.float64), "ddim", path=path)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-8)
    assert float(scales.max()) > 1.5 * float(scales.min())
