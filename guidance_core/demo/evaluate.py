"""Measure the digits demo by guidance and scale: accuracy, diversity, distance to real digits."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..frozen import frozen
from ..guiders import cfg_guided, classifier_guided
from ..sampling import sample
from ..schedules import trailing
from . import Demo, load
from .data import load_digits
from .judge import frechet_distance

CLASSIFIER_SCALES = (-2.0, 0.0, 1.0, 2.0, 4.0)
CFG_SCALES = (1.0, 2.0, 4.0)


@frozen
class Row:
    """One setting: its samples and what the judge makes of them."""

    guidance: str
    scale: float
    images: Tensor  # [N, 16, 16]
    accuracy: float
    diversity: float
    frechet: float


def settings(demo: Demo, labels: Tensor) -> Iterator[tuple[str, float, Denoiser]]:
    """Every guidance and scale of the table, steering sample i to labels[i]."""
    for scale in CLASSIFIER_SCALES:
        yield "classifier", scale, classifier_guided(demo.uncond, demo.classifier, labels, scale)
    for scale in CFG_SCALES:
        yield "CFG", scale, cfg_guided(demo.cond(labels), demo.uncond, scale)


@torch.no_grad()
def evaluate(demo: Demo, samples: int = 1000, steps: int = 25, sampler: str = "ddim", seed: int = 0) -> Iterator[Row]:
    """Sample every setting from the same noise, the ten classes in turn; yields one row each."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples, *demo.shape, generator=generator)
    labels = torch.arange(samples) % len(demo.labels)
    real = demo.judge.features(load_digits()[1].images)
    for guidance, scale, denoiser in settings(demo, labels):
        x0 = sample(denoiser, noise, trailing(demo.sigmas, steps), sampler, generator=generator)
        images = demo.to_image(x0)
        yield Row(
            guidance,
            scale,
            images,
            demo.judge.accuracy(images, labels),
            demo.judge.diversity(images, labels),
            frechet_distance(demo.judge.features(images), real),
        )


def contact_sheet(rows: list[Row], file: Path, columns: int = 20, zoom: int = 3) -> None:
    """The first two samples of each class for every row, one line of digits a row, written as an image."""
    from PIL import Image

    lines = [torch.cat(list(row.images[:columns]), 1) for row in rows]
    sheet = torch.cat(lines).mul(255).round().byte().numpy()
    image = Image.fromarray(sheet)
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST).save(file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m guidance_core.demo.evaluate", description=__doc__)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--sampler", default="ddim")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet to this PNG file")
    arguments = parser.parse_args()
    rows = []
    print(f"{'guidance':<12}{'scale':>6}{'accuracy':>10}{'diversity':>11}{'Frechet':>9}")
    for row in evaluate(load(), arguments.samples, arguments.steps, arguments.sampler):
        rows.append(row)
        print(
            f"{row.guidance:<12}{row.scale:>6g}{row.accuracy:>10.3f}{row.diversity:>11.3f}{row.frechet:>9.2f}",
            flush=True,
        )
    if arguments.sheet:
        contact_sheet(rows, arguments.sheet)


if __name__ == "__main__":
    main()
