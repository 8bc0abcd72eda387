"""What CFG Combine costs at each call of a model, against ComfyUI's own CFGGuider alone."""

from collections.abc import Iterator

import torch

from . import host
from .measure import Row, Spread, Target, interleaved, ratio

TITLE = "What CFG Combine costs"
INTRO = (
    "The same euler run by ComfyUI's CFGGuider on a MODEL as it is and on one with CFG Combine (standard, constant "
    "scale 6), whose results are equal bit for bit; everything is computed, nothing skipped."
)


def entries(quick: bool) -> Iterator[Row]:
    """Digits, where the network takes least, then a network of SD1.5's size."""
    yield from _compared("digits, batch 1, 30 steps", *host.digits(), (1, 1, 16, 16), 30, 3 if quick else 41, 1.05)
    width, side = (64, 16) if quick else (320, 64)
    name = f"SD1.5-sized UNet ({width} channels), {side}x{side}, batch 1, 1 step"
    yield from _compared(name, *host.sd15(width), (1, 4, side, side), 1, 3 if quick else 5, 1.01)


def _compared(name, model, positive, negative, shape, steps, rounds, most) -> Iterator[Row]:
    combined = host.node("cfg_combine.CFGCombine", model=model, scale=6.0, method={"method": "standard"})
    noise, sigmas = torch.randn(shape, generator=torch.Generator().manual_seed(0)), host.karras(model, steps)

    def core():
        return host.sampled(model, positive, negative, noise, sigmas)

    def ours():
        return host.sampled(combined, positive, negative, noise, sigmas)

    if not torch.equal(ours(), core()):
        raise SystemExit(f"{name}: CFG Combine gave another result than the CFGGuider.")
    a, b = interleaved(ours, core, rounds=rounds, warm_up=False)
    each = f"a step: {Spread.of(b).median / steps * 1e3:.4g} ms in core; {rounds} rounds"
    yield Row(f"{name}: time, ours / core", ratio(a, b), target=Target(high=most), detail=each, suspect=ours)
    more = [(x - y) / steps * 1e6 for x, y in zip(a, b, strict=True)]
    yield Row(f"{name}: added to each call", Spread.of(more), "us", detail="start and end of the run included")
