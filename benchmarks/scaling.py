"""How time and memory grow with batch, resolution, terms, steps and runs."""

from collections.abc import Iterator
from statistics import median
from time import perf_counter

import psutil
import torch

from . import host
from .classifier_cost import base_classifier, gradient
from .kept import most_kept
from .measure import Row, Spread, Target, interleaved, ratio

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
    yield from _memory(*(16, 4) if quick else (32, 8))
    yield _steps(2 if quick else 9)
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
        suspect=lambda: _run(setup, most, 4),
    )


def _resolution(sides, rounds: int) -> Row:
    classifier = base_classifier()
    runs = [gradient(classifier, (1, 4, side, side)) for side in sides]
    times = interleaved(*runs, rounds=rounds)
    made = ", ".join(f"{side}x{side}: {median(t) * 1e3:.4g}" for side, t in zip(sides, times, strict=True))
    name = f"base classifier, time at {sides[-1]}x{sides[-1]} / 4 times that at {sides[-2]}x{sides[-2]}"
    quarter = [time / 4 for time in times[-1]]
    return Row(name, ratio(quarter, times[-2]), "", LINEAR, f"ms by size: {made}; {rounds} rounds", runs[-1])


def _terms(rounds: int) -> Row:
    setups = [guided(terms) for terms in (0, 1, 4)]
    none, one, four = interleaved(*[lambda s=s: _run(s, 8, 20) for s in setups], rounds=rounds)
    more = [(d - a) / 4 / (median(one) - median(none)) for a, d in zip(none, four, strict=True)]
    made = ", ".join(f"{median(t) / 20 * 1e3:.4g}" for t in (none, one, four))
    name = "digits, batch 8, time added by 4 terms / 4 times that added by one"
    return Row(name, Spread.of(more), "", LINEAR, f"ms a step with 0, 1, 4 terms: {made}; {rounds} rounds")


def _memory(side: int, few: int) -> Iterator[Row]:
    classifier, many = base_classifier(), 8 * few

    def kept(batch: int, side: int = side, judge=classifier) -> int:
        return most_kept(gradient(judge, (batch, 4, side, side)), classifier.network)

    one, some, all_at_once, large = kept(1), kept(few), kept(many), kept(1, 2 * side)
    in_parts = kept(many, judge=holding(few, classifier))
    terms = {
        n: most_kept(lambda n=n: _run(guided(n), 8, 2), host.pack("nodes.digits").load_digits()[2].network)
        for n in (1, 4)
    }
    rows = {
        f"at batch {many} / {many} times that at batch 1": (all_at_once / many / one, LINEAR),
        f"at {2 * side}x{2 * side} / 4 times that at {side}x{side}": (large / 4 / one, LINEAR),
        f"at batch {many}, where memory holds {few}, / that at batch {few}": (in_parts / some, CONSTANT),
        "with 4 terms / that with one (digits, batch 8)": (terms[4] / terms[1], CONSTANT),
    }
    made = f"base classifier, {side}x{side}: {one / 2**20:.3g} MB at batch 1"
    for name, (value, target) in rows.items():
        yield Row(f"most kept for backward passes {name}", Spread.of([value]), "", target, made)


def holding(most: int, classifier):
    """A classifier whose memory runs out for more than `most` samples."""

    def judge(x, sigma, path):
        if len(x) > most:
            raise torch.cuda.OutOfMemoryError(f"{len(x)} samples do not fit")
        return classifier(x, sigma, path)

    return judge


def _steps(rounds: int) -> Row:
    setup, shares = guided(), []
    for _ in range(rounds):
        ends: list[float] = []
        _run(setup, 8, 100, lambda step, x0, x, steps, ends=ends: ends.append(perf_counter()))
        took = [b - a for a, b in zip(ends, ends[1:], strict=False)]
        shares.append(median(took[-25:]) / median(took[:25]))
    name = "digits, batch 8, steps 75 to 100 of a run / steps 2 to 26"
    return Row(name, Spread.of(shares), target=CONSTANT, detail=f"median step of each part; {rounds} runs")


def _runs(few: int, many: int) -> Row:
    setup, process, sizes = guided(), psutil.Process(), []
    for _ in range(many):
        _run(setup, 8, 10)
        sizes.append(process.memory_info().rss / 2**20)
    name = f"memory of the process after {many} runs of one graph above that after {few}"
    made = f"{sizes[few - 1]:.0f} MB after {few} runs of 10 steps"
    return Row(name, Spread.of([sizes[-1] - sizes[few - 1]]), "MB", Target(high=5), made)
