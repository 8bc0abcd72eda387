"""What CFG Combine costs at each call of a model, against ComfyUI's own CFGGuider alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from devtools.host import ROOT

from . import host
from .before import COMMIT, NOT_MEASURED, earlier, printed
from .measure import Row, Spread, Target, interleaved, ratio
from .reads import reads_in_a_step

TITLE = "What CFG Combine costs"
INTRO = (
    "The same euler run by ComfyUI's CFGGuider on a MODEL as it is and on one with CFG Combine (standard, constant "
    "scale 6), whose results are equal bit for bit; everything is computed, nothing skipped. Without the network only "
    "the host's own time is left, and what we add to it can be told from noise. *Reads* are of numbers in "
    "tensors by the host, which on a GPU wait for all work before them; nodes' texts, five a second, are left out."
)


ADDED = """
import json, sys
from time import perf_counter
import torch
from benchmarks import host
host.prepare(sys.argv[1])
host.load_pack()
model, positive, negative = host.digits()
model.model.diffusion_model.forward = lambda x, *inputs, **more: 0.5 * x
combined, noise, sigmas = host.combined(model), torch.randn(1, 1, 16, 16), host.karras(model, 30)
times = [[], []]
for _ in range(41):
    for each, side in zip(times, (model, combined)):
        began = perf_counter()
        host.sampled(side, positive, negative, noise, sigmas)
        each.append(perf_counter() - began)
print(json.dumps(sorted(b - a for a, b in zip(*times))[20] / 30 * 1e6))
"""


def entries(quick: bool) -> Iterator[Row | str]:
    """Nothing but the host, then digits, where the network takes little, one of SD1.5's size, and reads."""
    digits = host.digits()
    with _without_network(digits[0]):
        yield from _compared("no network, batch 1, 30 steps", *digits, (1, 1, 16, 16), 30, 3 if quick else 61, None)
    yield from _compared("digits, batch 1, 30 steps", *digits, (1, 1, 16, 16), 30, 3 if quick else 41, 1.05)
    width, side = (64, 16) if quick else (320, 64)
    name = f"SD1.5-sized UNet ({width} channels), {side}x{side}, batch 1, 1 step"
    yield from _compared(name, *host.sd15(width), (1, 4, side, side), 1, 3 if quick else 5, 1.01)
    yield _against_before(1 if quick else 7)
    for name, reads, most in reads_by_plan():
        yield Row(f"reads in a step of euler, {name}", Spread.of([reads]), target=Target(high=most))


def _against_before(rounds: int) -> Row | str:
    """What a call costs more under CFG Combine, in fresh processes of this state and of an earlier one in turn."""
    with earlier() as before:
        if before is None:
            return NOT_MEASURED
        pairs = [(printed(ADDED, ROOT), printed(ADDED, before)) for _ in range(rounds)]
    ours, theirs = zip(*pairs, strict=True)
    made = f"{Spread.of(ours).median:.4g} and {Spread.of(theirs).median:.4g} us; {rounds} fresh processes each"
    name = f"no network, batch 1, 30 steps: added to each call / at commit {COMMIT}"
    return Row(name, ratio(ours, theirs), "", Target(high=0.7), made)


@contextmanager
def _without_network(model) -> Iterator[None]:
    """Leave of a MODEL what surrounds its network."""
    network = model.model.diffusion_model
    network.forward, forward = lambda x, *inputs, **more: 0.5 * x, network.forward
    try:
        yield
    finally:
        network.forward = forward


def _compared(name, model, positive, negative, shape, steps, rounds, most) -> Iterator[Row]:
    combined = host.combined(model)
    noise, sigmas = torch.randn(shape, generator=torch.Generator().manual_seed(0)), host.karras(model, steps)

    def core():
        return host.sampled(model, positive, negative, noise, sigmas)

    def ours():
        return host.sampled(combined, positive, negative, noise, sigmas)

    if not torch.equal(ours(), core()):
        raise SystemExit(f"{name}: CFG Combine gave another result than the CFGGuider.")
    a, b = interleaved(ours, core, rounds=rounds, warm_up=False)
    each = f"a step: {Spread.of(b).median / steps * 1e3:.4g} ms in core; {rounds} rounds"
    target = Target(high=most) if most else None
    yield Row(f"{name}: time, ours / core", ratio(a, b), "", target, each, (ours, core))
    more = [(x - y) / steps * 1e6 for x, y in zip(a, b, strict=True)]
    yield Row(f"{name}: added to each call", Spread.of(more), "us", detail="start and end of the run included")


def reads_by_plan() -> Iterator[tuple[str, float, int]]:
    """What is on the MODEL, the reads in a step, and how many there may be.

    A schedule must know the noise level; a classifier's gradient is looked at for numbers that are not finite.
    """
    model, positive, negative = host.digits()
    host.pack("nodes.host.host_run").INTERVAL = float("inf")
    noise = torch.randn(2, 1, 16, 16)
    for name, guided, most in (
        ("ComfyUI's CFGGuider", model, 0),
        ("CFG Combine", host.combined(model), 0),
        ("CFG Combine with a schedule", host.combined(model, schedule={"shape": "linear"}), 1),
        ("Classifier Guidance", host.steered(model, 2.0), 2),
    ):

        def run(steps: int, guided=guided):
            return host.sampled(guided, positive, negative, noise, host.karras(model, steps))

        yield name, reads_in_a_step(run), most
