"""How time and memory grow with batch, resolution, terms, steps and runs."""

from collections.abc import Iterator
from statistics import median
from time import perf_counter

import psutil
import torch

from . import host
from .base_classifier import base_classifier, gradient
from .measure import Row, Spread, Target, interleaved, ratio
from .peak import NOT_MEASURED, STATUS, peak_of

TITLE = "Growth"
INTRO = (
    "In ComfyUI: digits with CFG Combine and Classifier Guidance. The base classifier at latents of 4 channels. Linear "
    "is 1; below it, larger batches use the machine better."
)
LINEAR = Target(high=1.1)
CONSTANT = Target(high=1.05)


def entries(quick: bool) -> Iterator[Row | str]:
    """Batch, resolution, terms, memory, then steps and runs."""
    rounds = 2 if quick else 9
    yield _batch((1, 8) if quick else (1, 2, 4, 8, 16, 32, 64), rounds)
    yield _resolution((16, 32) if quick else (32, 64, 128), rounds)
    yield _terms(rounds)
    yield from _memory(8, *(16, 1) if quick else (64, 3))
    yield from _steps(2 if quick else 9)
    yield _runs(*(3, 10) if quick else (10, 100))


def guided(terms: int = 1):
    """The digits under CFG Combine with momentum and this many classifier terms; its positive and negative."""
    model, positive, negative = host.digits()
    model = host.combined(model, 3.0, "apg", eta=0.0, norm_threshold=15.0, momentum=-0.5)
    for _ in range(terms):
        model = host.steered(model, 0.5)
    return model, positive, negative


def _run(setup, batch: int, steps: int, callback=None):
    model, positive, negative = setup
    noise = torch.randn(batch, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return host.sampled(model, positive, negative, noise, host.karras(model, steps), callback=callback)


def _batch(sizes, rounds: int) -> Row:
    setup, most = guided(), sizes[-1]
    times = interleaved(*[lambda n=n: _run(setup, n, 4) for n in sizes], rounds=rounds)
    by_size = dict(zip(sizes, times, strict=True))
    each = [time / 8 for time in by_size[most]]
    shown = ", ".join(f"{n}: {median(by_size[n]) / 4 / n * 1e3:.3g}" for n in sizes)
    return Row(
        f"digits, time of a batch of {most} / 8 times that of {most // 8}",
        ratio(each, by_size[most // 8]),
        target=LINEAR,
        detail=f"ms a step and picture, by batch: {shown}; {rounds} rounds",
        suspect=(lambda: _run(setup, most, 4), lambda: _run(setup, most // 8, 4)),
    )


def _resolution(sides, rounds: int) -> Row:
    classifier = base_classifier()
    runs = [gradient(classifier, (1, 4, side, side)) for side in sides]
    times = interleaved(*runs, rounds=rounds)
    made = ", ".join(f"{side}x{side}: {median(t) * 1e3:.4g}" for side, t in zip(sides, times, strict=True))
    name = f"base classifier, time at {sides[-1]}x{sides[-1]} / 4 times that at {sides[-2]}x{sides[-2]}"
    quarter = [time / 4 for time in times[-1]]
    return Row(
        name, ratio(quarter, times[-2]), "", LINEAR, f"ms by size: {made}; {rounds} rounds", (runs[-1], runs[-2])
    )


def _terms(rounds: int) -> Row:
    setups = [guided(terms) for terms in (0, 1, 4)]
    none, one, four = interleaved(*[lambda s=s: _run(s, 8, 20) for s in setups], rounds=rounds)
    more = [(d - a) / 4 / (median(one) - median(none)) for a, d in zip(none, four, strict=True)]
    made = ", ".join(f"{median(t) / 20 * 1e3:.4g}" for t in (none, one, four))
    name = "digits, batch 8, time added by 4 terms / 4 times that added by one"
    return Row(name, Spread.of(more), "", LINEAR, f"ms a step with 0, 1, 4 terms: {made}; {rounds} rounds")


def _memory(few: int, side: int, rounds: int) -> Iterator[Row | str]:
    """Of processes that steer one step, above one that does so with next to nothing."""
    if not STATUS.exists():
        yield NOT_MEASURED
        return
    many = 8 * few
    shapes = {  # batch, side, terms, samples that memory holds
        "nothing": (1, 8, 1, 1),
        "few": (few, side, 1, few),
        "many": (many, side, 1, many),
        "parts": (many, side, 1, few),
        "large": (few, 2 * side, 1, few),
        "terms": (few, side, 4, few),
    }
    peaks = {name: [] for name in shapes}
    for _ in range(rounds):
        for name, shape in shapes.items():
            peaks[name].append(peak_of("benchmarks.gradient_peak", *shape))
    added = {name: [p - q for p, q in zip(peaks[name], peaks["nothing"], strict=True)] for name in shapes}
    for name, words, factor, target in (
        ("many", f"a batch of {many} / 8 times that by one of {few}", 8, LINEAR),
        ("parts", f"a batch of {many}, where memory holds {few}, / that by one of {few}", 1, LINEAR),
        ("large", f"{2 * side}x{2 * side} / 4 times that by {side}x{side}", 4, LINEAR),
        ("terms", "4 terms / that by one", 1, LINEAR),
    ):
        value = ratio([each / factor for each in added[name]], added["few"])
        made = ", ".join(f"{Spread.of(added[each]).median:.0f}" for each in (name, "few"))
        made = (
            f"base classifier, {side}x{side}: {made} MB above {Spread.of(peaks['nothing']).median:.0f}; {rounds} rounds"
        )
        yield Row(f"peak memory added by {words}", value, "", target, made)
    yield "A batch taken in parts still holds the latents, noise, predictions and gradients of all its samples."


def _steps(rounds: int) -> Iterator[Row]:
    setup, process, shares, growth = guided(), psutil.Process(), [], []
    for _ in range(rounds):
        ends: list[float] = []
        sizes: list[float] = []

        def note(step, x0, x, steps, ends=ends, sizes=sizes):
            ends.append(perf_counter())
            sizes.append(process.memory_info().rss / 2**20)

        _run(setup, 8, 100, note)
        took = [b - a for a, b in zip(ends, ends[1:], strict=False)]
        shares.append(median(took[-25:]) / median(took[:25]))
        growth.append(sizes[-1] - sizes[24])
    made = f"{rounds} runs"
    name = "digits, batch 8, steps 75 to 100 of a run / steps 2 to 26"
    yield Row(name, Spread.of(shares), "", CONSTANT, f"median step of each part; {made}")
    name = "memory of the process after step 100 of a run above that after step 25"
    yield Row(name, Spread.of(growth), "MB", Target(high=5), made)


def _runs(few: int, many: int) -> Row:
    setup, process, sizes = guided(), psutil.Process(), []
    for _ in range(many):
        _run(setup, 8, 10)
        sizes.append(process.memory_info().rss / 2**20)
    name = f"memory of the process after {many} runs of one graph above that after {few}"
    made = f"{sizes[few - 1]:.0f} MB after {few} runs of 10 steps"
    return Row(name, Spread.of([sizes[-1] - sizes[few - 1]]), "MB", Target(high=5), made)
