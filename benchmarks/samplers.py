"""The library's samplers against the schedulers of diffusers, around the same network."""

import copy
import importlib
from collections.abc import Iterator
from importlib.util import find_spec

import torch

import guidance_core as gc
from guidance_core import demo
from guidance_core.demo.network import NULL

from .measure import Row, Side, Spread, Target, interleaved, ratio

TITLE = "Samplers"
INTRO = (
    "`gc.sample` with a `v_denoiser` against a loop over a scheduler of diffusers, around the digits' network and "
    "around a function that does nothing, which leaves the time of the sampler itself. 50 steps in single precision. "
    "That the results are equal is measured in double precision, in which only the schedulers' own single-precision "
    "tables are left to differ. Around a network of some milliseconds a ratio near 1 is the machine's noise: what the "
    "samplers themselves take is in the rows *no network*."
)
STEPS = 50
SCHEDULERS = {"ddim": "DDIMScheduler", "ddpm": "DDPMScheduler"}


@torch.no_grad()
def entries(quick: bool) -> Iterator[Row | str]:
    """Time, then equality, for each sampler."""
    if not find_spec("diffusers"):
        yield "Without diffusers, whose schedulers are compared here."
        return
    digits = demo.load()
    rounds = 3 if quick else 31
    for name in SCHEDULERS:
        for batch in (1, 4 if quick else 16):
            yield _timed(name, f"digits, batch {batch}", digits.network, digits, batch, rounds)
        yield _timed(name, "no network", lambda x, t, y: x, digits, 1, rounds)
        ours, theirs = sides(name, copy.deepcopy(digits.network).double(), digits, 4, torch.float64)
        difference = Spread.of([float((ours() - theirs()).abs().max())])
        yield Row(f"{name}: largest difference of a pixel", difference, "", Target(high=1e-5), "batch 4, in [-1, 1]")


def _timed(name: str, around: str, network, digits, batch: int, rounds: int) -> Row:
    ours, theirs = sides(name, network, digits, batch, torch.float32)
    a, b = interleaved(ours, theirs, rounds=rounds)
    value, theirs_took = ratio(a, b), Spread.of(b).median / STEPS * 1e3
    made = f"{theirs_took * value.median:.4g} and {theirs_took:.4g} ms"
    return Row(
        f"{name}: {around}: time, ours / diffusers", value, "", Target(high=1.0), f"{made} a step", (ours, theirs)
    )


def sides(name: str, network, digits, batch: int, dtype: torch.dtype) -> tuple[Side, Side]:
    """Our sampler and the scheduler's loop from the same noise: each gives x0."""
    labels = torch.full((batch,), NULL)
    noise = torch.randn(batch, *digits.shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    sigmas = gc.leading(digits.sigmas, STEPS)
    denoiser = gc.v_denoiser(network, digits.sigmas)
    scheduler = getattr(importlib.import_module("diffusers"), SCHEDULERS[name])(
        beta_start=1e-4,
        beta_end=0.02,
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="leading",
    )

    def ours():
        generator = torch.Generator().manual_seed(1)
        return gc.sample(lambda x, sigma: denoiser(x, sigma, y=labels), noise, sigmas, name, generator)

    def theirs():
        generator = torch.Generator().manual_seed(1)
        scheduler.set_timesteps(STEPS)
        x = gc.VE.unit(noise * sigmas[0].to(dtype), sigmas[:1])
        for t in scheduler.timesteps:
            v = network(x, t.expand(batch), labels)
            x = scheduler.step(v, t, x, generator=generator).prev_sample
        return x

    return ours, theirs
