"""Paths: alpha and sigma of each, the way between them, and the spaces in which networks predict."""

import math

import pytest
import torch

import guidance_core as gc
from guidance_core.parameterizations import EPS, VELOCITY, X0, Edm, V

LOG_SNR = torch.tensor([-9.0, -3.0, -0.5, 0.0, 1.0, 4.0, 9.0], dtype=torch.float64)


def test_alpha_of_each_path():
    sigma = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    assert gc.VE.alpha(sigma).tolist() == [1, 1, 1]
    torch.testing.assert_close(gc.VP.alpha(sigma) ** 2 + sigma**2, torch.ones(3).double())
    torch.testing.assert_close(gc.FLOW.alpha(sigma) + sigma, torch.ones(3).double())


def test_log_snr_is_twice_the_log_of_alpha_over_sigma(path):
    sigma = torch.tensor([0.02, 0.4, 0.97], dtype=torch.float64)
    want = [2 * math.log(float(a) / float(s)) for a, s in zip(path.alpha(sigma), sigma, strict=True)]
    torch.testing.assert_close(path.log_snr(sigma), torch.tensor(want, dtype=torch.float64))


def test_sigma_at_undoes_log_snr(path):
    torch.testing.assert_close(path.log_snr(path.sigma_at(LOG_SNR)), LOG_SNR)


def test_alpha_slope_is_the_derivative_of_alpha(path):
    sigma = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    h = 1e-6
    numeric = (path.alpha(sigma + h) - path.alpha(sigma - h)) / (2 * h)
    torch.testing.assert_close(path.alpha_slope(sigma), numeric, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("level", [2, 0.75])
def test_a_plain_number_is_a_noise_level_in_full_precision(randn, level):
    x = randn(2, 3, 4, 4)
    want = torch.tensor(float(level), dtype=torch.float64)
    assert torch.equal(gc.VE.unit(x, level), gc.VE.unit(x, want))
    assert float(gc.VE.log_snr(level)) == float(gc.VE.log_snr(want))
    assert float(gc.FLOW.alpha(0.1)) == 1 - 0.1


def test_unit_gives_total_variance_one_and_the_vp_sample(path, randn):
    x0, noise = randn(3, 2, 4, 4), randn(3, 2, 4, 4, seed=1)
    for log_snr in LOG_SNR:
        sigma, vp = path.sigma_at(log_snr), gc.VP.sigma_at(log_snr)
        x = path.alpha(sigma) * x0 + sigma * noise
        torch.testing.assert_close(path.unit(x, sigma), gc.VP.alpha(vp) * x0 + vp * noise)


@pytest.mark.parametrize("target", [gc.VE, gc.VP, gc.FLOW], ids=lambda path: path.name)
def test_change_of_frame_keeps_data_noise_and_log_snr(path, target, randn):
    x0, noise = randn(7, 2, 4, 4), randn(7, 2, 4, 4, seed=1)
    sigma = path.sigma_at(LOG_SNR)

    def sample(p, s):
        s = s[:, None, None, None]
        return p.alpha(s) * x0 + s * noise

    x, new = gc.change_frame(sample(path, sigma), sigma, path, target)
    torch.testing.assert_close(target.log_snr(new), LOG_SNR)
    torch.testing.assert_close(x, sample(target, new))
    back, old = gc.change_frame(x, new, target, path)
    torch.testing.assert_close(old, sigma)
    torch.testing.assert_close(back, sample(path, sigma))


def test_eps_is_the_noise_and_slope_the_derivative_of_x(path, randn):
    x0, noise = randn(2, 2, 4, 4), randn(2, 2, 4, 4, seed=1)

    def x_at(sigma):
        return path.alpha(sigma) * x0 + sigma * noise

    s, h = torch.tensor(0.6, dtype=torch.float64), 1e-6
    torch.testing.assert_close(path.eps(x_at(s), x0, s), noise)
    numeric = (x_at(s + h) - x_at(s - h)) / (2 * h)
    torch.testing.assert_close(path.slope(x_at(s), x0, s), numeric, atol=1e-7, rtol=1e-7)


def expected_output(space, x0, noise, x, sigma, path):
    """What a perfect network of each kind would say, from the definitions."""
    alpha = path.alpha(sigma)
    if space == EPS:
        return noise
    if space == V:
        total = (alpha**2 + sigma**2).sqrt()
        return (alpha * noise - sigma * x0) / total
    if space == VELOCITY:
        return noise - x0
    if space == X0:
        return x0
    c_skip = 0.25 / (sigma**2 + 0.25)
    c_out = sigma * 0.5 / (sigma**2 + 0.25).sqrt()
    return (x0 - c_skip * x) / c_out


SPACES = {"eps": EPS, "v": V, "velocity": VELOCITY, "x0": X0, "edm": Edm(0.5)}
SPACE_CASES = [
    (name, p) for name in SPACES for p in (gc.VE, gc.VP, gc.FLOW) if name != "velocity" or p is gc.FLOW
]  # the velocity exists on the flow path only


@pytest.mark.parametrize(("name", "where"), SPACE_CASES, ids=lambda value: getattr(value, "name", value))
def test_a_space_is_its_definition_and_comes_back(name, where, randn):
    space, sigma = SPACES[name], torch.tensor(0.7, dtype=torch.float64)
    x0, noise = randn(2, 3, 4, 4), randn(2, 3, 4, 4, seed=1)
    x, sigmas = where.alpha(sigma) * x0 + sigma * noise, sigma.expand(2)
    output = space.output(x0, x, sigmas, where)
    torch.testing.assert_close(output, expected_output(space, x0, noise, x, sigma, where))
    torch.testing.assert_close(space.denoised(output, x, sigmas, where), x0)


def test_velocity_off_the_flow_path_is_refused(randn):
    x = randn(1, 2, 2, 2)
    with pytest.raises(gc.GuidanceError, match="flow path only"):
        VELOCITY.output(x, x, torch.ones(1), gc.VE)


def test_a_denoiser_asks_the_network_at_the_nearest_training_level(randn):
    sigmas = gc.sigmas_from_betas(gc.betas("scaled_linear"))
    asked = []

    def net(x, t):
        asked.append(t.tolist())
        return torch.zeros_like(x)

    denoiser = gc.eps_denoiser(net, sigmas)
    x = randn(3, 2, 2, 2)
    between = (sigmas[10] * sigmas[11]).sqrt()
    denoiser(x, torch.stack([sigmas[0], sigmas[500], sigmas[999]]))
    denoiser(x, torch.stack([between * 0.999, between * 1.001, torch.tensor(0.0)]))
    denoiser(x, float(sigmas[700]))
    assert asked == [[0, 500, 999], [10, 11, 0], [700, 700, 700]]


def test_the_nearest_training_level_is_nearest_in_log_sigma(randn):
    asked = []
    denoiser = gc.eps_denoiser(lambda x, t: asked.extend(t.tolist()) or x, torch.tensor([0.1, 1.0, 10.0]))
    denoiser(randn(4, 1, 2, 2), torch.tensor([0.3, 0.4, 3.0, 4.0]))
    assert asked == [0, 1, 1, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_samples_do_not_blur_the_training_step(dtype, randn):
    """A run in half precision asks for the same training steps as one in double precision."""
    sigmas = gc.sigmas_from_betas(gc.betas("scaled_linear"))
    visited = {}
    for kind in (dtype, torch.float64):

        def net(x, t, kind=kind):
            visited.setdefault(kind, []).append(int(t[0]))
            return torch.zeros_like(x)

        gc.sample(gc.eps_denoiser(net, sigmas), randn(1, 2, 2, 2, dtype=kind), gc.trailing(sigmas, 40), "euler")
    assert visited[dtype] == visited[torch.float64]


def test_sigma_of_another_length_than_the_batch_is_refused(randn):
    denoiser = gc.flow_denoiser(lambda x, t: x)
    with pytest.raises(gc.GuidanceError, match="3 noise levels for a batch of 2"):
        denoiser(randn(2, 1, 2, 2), torch.tensor([0.1, 0.2, 0.3]))


@pytest.mark.parametrize(
    ("where", "held", "refused"),
    [
        (gc.VE, (1e-30, 0.5, 4519.0), (0.0, -1.0, math.nan)),
        (gc.VP, (1e-30, 0.5, 0.999), (0.0, -1.0, 1.0, 1.5, math.nan)),
        (gc.FLOW, (1e-30, 0.5, 1.0), (0.0, -1.0, 1.0001, 1.5, math.inf, math.nan)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_levels_that_are_none_of_the_path_are_refused(where, held, refused):
    for sigma in held:
        where.check(sigma)
    for sigma in refused:
        with pytest.raises(
            gc.GuidanceError, match=f"On the {where.name} path sigma must be {where.domain}, got {sigma:g}"
        ):
            where.check(sigma)
