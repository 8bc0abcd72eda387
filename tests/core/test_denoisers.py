"""Denoisers from networks: the training step that a noise level falls on, and the three kinds of prediction."""

import pytest
import torch

import guidance_core as gc

SIGMAS = gc.sigmas_from_betas(gc.betas("scaled_linear"))


def steps_at(sigma, sigmas=SIGMAS):
    """The training steps that a network is asked at."""
    asked = []
    denoiser = gc.eps_denoiser(lambda x, t: asked.append(t) or x, sigmas)
    denoiser(torch.zeros(len(sigma), 1, 1), sigma)
    return asked[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_training_level_is_its_own_step(dtype):
    assert torch.equal(steps_at(SIGMAS.to(dtype)), torch.arange(1000))


def test_between_two_levels_the_nearest_in_log_sigma_counts(randn):
    sigma = (3 * randn(500)).exp().double()  # below the cleanest level and above the noisiest one, too
    nearest = (sigma.log()[:, None] - SIGMAS.log()).abs().argmin(1)
    assert sigma.min() < SIGMAS[0] and sigma.max() > SIGMAS[-1]
    assert torch.equal(steps_at(sigma), nearest)


def test_one_training_level_is_every_level():
    assert steps_at(torch.tensor([0.01, 1.0, 50.0]), SIGMAS[500:501]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(3, 4, 8, 8), (3, 2, 3, 4, 4)], ids=["4-D", "5-D"])
def test_a_network_that_knows_x0_and_noise_gives_x0_in_every_space(randn, shape):
    x0, noise = randn(*shape, seed=1).double(), randn(*shape, seed=2).double()
    sigma = torch.tensor([0.1, 1.0, 12.0], dtype=torch.float64)
    level = sigma.reshape(-1, *[1] * (len(shape) - 1))
    a, s = 1 / (1 + level**2).sqrt(), level / (1 + level**2).sqrt()
    outputs = {gc.eps_denoiser: noise, gc.v_denoiser: a * noise - s * x0, gc.x0_denoiser: x0}
    for kind, output in outputs.items():
        seen = []
        denoised = kind(lambda x, t, output=output, seen=seen: seen.append(x) or output, SIGMAS)(
            x0 + level * noise, sigma
        )
        torch.testing.assert_close(denoised, x0)
        torch.testing.assert_close(seen[0], a * x0 + s * noise)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", [gc.eps_denoiser, gc.v_denoiser, gc.x0_denoiser])
def test_levels_whose_square_half_precision_does_not_hold(randn, kind, dtype):
    sigma, x = torch.tensor([304.0, 4096.0]), randn(2, 3, 4, 4)
    x = (x * sigma[:, None, None, None]).to(dtype)
    half, single = (kind(lambda unit, t: 0.5 * unit, SIGMAS)(x.to(d), sigma.to(d)) for d in (dtype, torch.float32))
    torch.testing.assert_close(half.float(), single, rtol=0.02, atol=0.02)
