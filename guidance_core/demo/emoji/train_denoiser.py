"""How the denoiser is trained: v at even t on Stable Diffusion's betas, 15 % of the conditions dropped."""

import torch
from torch import Tensor

from ...null import drop_condition
from ...paths import VE
from ...schedules import betas, sigmas_from_betas
from ...tensors import expand
from .fit import Plan, half
from .latents import Bank
from .network import NULL, Denoiser

PLAN = Plan(steps=6700, learning_rate=1e-3, seed=0, warm_up=200, cooling=0.2, ema=0.999)
BATCH = 32
DROPPED = 0.15
DETAIL = 5.0
"""Levels whose signal-to-noise ratio is above this count less, as in min-SNR (arXiv:2303.09556): shape comes first."""
SIGMAS = sigmas_from_betas(betas("scaled_linear", n=1000))
"""The training levels on VE, rising: Stable Diffusion's."""


def loss_for(bank: Bank):
    """The loss of a denoiser on random latents of the bank, their noise levels spread evenly over the batch."""
    log_snr = VE.log_snr(SIGMAS).float()
    alphas, levels = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()

    def loss_of(network: Denoiser, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(bank.labels), (BATCH,), generator=generator)
        x0, y = bank.x0[chosen], drop_condition(bank.labels[chosen], NULL, DROPPED, generator)
        t = ((torch.arange(BATCH) + torch.rand(BATCH, generator=generator)) * len(SIGMAS) / BATCH).long()
        noise = torch.randn(x0.shape, generator=generator)
        alpha, sigma = expand(alphas[t], x0), expand(levels[t], x0)
        x = (alpha * x0 + sigma * noise).to(memory_format=torch.channels_last)
        with half():
            v = network(x, t, y)
        error = (v.float() - (alpha * noise - sigma * x0)).square().mean((1, 2, 3))
        return (error * (DETAIL * (-log_snr[t]).exp()).clamp(max=1)).mean()

    return loss_of
