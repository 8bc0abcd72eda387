"""Fewer gradients a run: what a classifier's gradient kept over several steps, or a window, costs in accuracy."""

import itertools
from collections.abc import Iterator

import torch

import guidance_core as gc
from guidance_core import demo
from guidance_core.demo.data import load_digits
from guidance_core.demo.judge import frechet_distance
from guidance_core.denoisers import Denoiser
from guidance_core.drawing.plot import AMBER, BLUE, GREEN, TEXT, Line, Panel, picture

from .measure import Row
from .results import Picture

TITLE = "Fewer gradients"
INTRO = (
    "Digits steered by their classifier at scale 2 over 25 steps of ddim. *Kept*: a gradient is computed at every k-th "
    "step and used again in between, sigma * gradient kept as it is; no node does this. *Window*: a Scale Schedule of "
    "the shape interval; the picture's curves have the windows that begin or end at one step. The judge never guides "
    "(`guidance_core.demo`); the figures are the same on every machine but for rounding."
)
STEPS, SCALE = 25, 2.0
WINDOWS = {
    "from step 1": ((0, 16), (0, 12), (0, 8)),
    "from step 5": ((4, 16), (4, 12)),
    "to step 25": ((4, 24), (8, 24), (12, 24)),
}
COLOURS = {"kept": BLUE, "from step 1": AMBER, "from step 5": GREEN, "to step 25": TEXT}
COLUMNS = "| gradients | of 25 | judge accuracy | diversity | Frechet distance |\n|---|---|---|---|---|"


@torch.no_grad()
def entries(quick: bool) -> Iterator[Row | Picture | str]:
    """One table, by falling number of gradients within each way to save them; then its curves."""
    digits, samples = demo.load(), 20 if quick else 500
    noise = torch.randn(samples, *digits.shape, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(samples) % len(digits.labels)
    real = digits.judge.features(load_digits()[1].images)
    lines, curves = [COLUMNS], {family: [] for family in COLOURS}
    for family, name, gradients, denoiser in settings(digits, labels):
        x0 = gc.sample(denoiser, noise, gc.trailing(digits.sigmas, STEPS))
        images = digits.to_image(x0)
        accuracy, diversity = digits.judge.accuracy(images, labels), digits.judge.diversity(images, labels)
        far = frechet_distance(digits.judge.features(images), real)
        lines.append(f"| {name} | {gradients} | {accuracy:.1%} | {diversity:.2f} | {far:.2f} |")
        curves[family].append((gradients, 100 * accuracy, far))
    yield "\n".join(lines)
    yield Picture("Accuracy and Frechet distance against the gradients of a run", drawn(curves))


def drawn(curves: dict[str, list[tuple[int, float, float]]]):
    """Points (gradients, accuracy, distance) of each way, as two panels over the number of gradients."""
    ticks = [(n / STEPS, str(n)) for n in range(0, STEPS + 1, 5)]
    return picture(
        [
            Panel(
                f"{title}, against gradients of {STEPS}",
                [
                    Line(
                        [p[i] for p in points],
                        COLOURS[family],
                        family,
                        places=[p[0] / STEPS for p in points],
                        dots=True,
                    )
                    for family, points in curves.items()
                ],
                ticks=ticks,
            )
            for i, title in ((1, "Judge accuracy, %"), (2, "Frechet distance"))
        ],
        width=640,
        height=200,
    )


def settings(digits, labels) -> Iterator[tuple[str, str, int, Denoiser]]:
    """Every way to save gradients: its curve, its name, how many it takes, and the denoiser."""
    for every in (1, 2, 3, 4, 6, 8):
        name = "one at each step" if every == 1 else f"kept for {every} steps"
        yield "kept", name, len(range(0, STEPS, every)), keeping(digits, labels, every)
    for family, windows in WINDOWS.items():
        for first, last in windows:
            window = gc.ScaleSchedule("interval", start=first / (STEPS - 1), end=last / (STEPS - 1))
            guided = gc.classifier_guided(digits.uncond, digits.classifier, labels, SCALE, window)
            yield family, f"window, steps {first + 1} to {last + 1}", last - first + 1, guided


def keeping(digits, labels, every: int) -> Denoiser:
    """Classifier guidance with a gradient at every `every`-th call of the one run that this denoiser is for."""
    calls, kept = itertools.count(), None

    def denoiser(x, sigma):
        nonlocal kept
        level = sigma[:, None, None, None]
        if next(calls) % every == 0:
            kept = level * gc.log_prob_grad(digits.classifier, x, sigma, labels)[0]
        return gc.shift_denoised(digits.uncond(x, sigma), kept / level, sigma, scale=SCALE)

    return denoiser
