"""Measure the emoji demo: `python -m guidance_core.demo.emoji.evaluate --table cfg`.

Short: `--samples 88`. `--sheet FILE` writes the first samples of each row as a PNG file, `--rows FILE` keeps the rows
for `python -m devtools.make_emoji`.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...classifier.clean import CleanClassifier
from ...classifier.copies import Shifted
from ...classifier.noisy import NoisyClassifier
from ...denoisers import Denoiser
from ...frozen import frozen
from ...guiders import cfg_guided, classifier_guided
from ...parameterizations import V
from ...sampling import sample
from ...scale import ScaleSchedule
from ...schedules import trailing
from . import Emoji, load
from .data import WORK, Pictures, load_pictures
from .fit import half
from .latents import load_bank
from .measure import Measure, copies, drawn, nearest
from .sheet import write_sheet

CFG_SCALES = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0)
CLASSIFIER_SCALES = (0.0, 6.0, 10.0, 14.0, 18.0)
GUIDE_SCALES = (32.0, 64.0)
METHOD_SCALES = (8.0,)
INTERVAL = ScaleSchedule("interval", start=5.42, end=0.6, axis="sigma")
METHODS: dict[str, dict[str, Any]] = {
    "standard": {},
    "standard, interval": {"schedule": INTERVAL},
    "rescale": {"method": "rescale"},
    "apg": {"method": "apg"},
    "tcfg": {"method": "tcfg"},
    "cfg_zero_star": {"method": "cfg_zero_star"},
}
BATCH = 55


@frozen
class Settings:
    """How samples are drawn."""

    samples: int
    steps: int
    sampler: str
    seed: int


Guided = Callable[..., Denoiser]
"""labels -> denoiser."""


def table(name: str, demo: Emoji) -> Iterator[tuple[str, float, Guided]]:
    """(what, scale, labels -> denoiser) for every row of a table."""
    if name == "cfg":
        for scale in CFG_SCALES:
            yield "CFG", scale, partial(with_cfg, demo, scale=scale)
    if name == "methods":
        for scale in METHOD_SCALES:
            for method, settings in METHODS.items():
                yield method, scale, partial(with_cfg, demo, scale=scale, **settings)
    if name == "classifier":
        for scale in CLASSIFIER_SCALES:
            yield "classifier", scale, partial(with_classifier, demo, demo.classifier, scale=scale)
    if name == "guide":
        moved = replace(demo.guide, copies=Shifted())
        for scale in GUIDE_SCALES:
            yield "guide", scale, partial(with_classifier, demo, moved, scale=scale)


def with_cfg(demo: Emoji, labels: Tensor, scale: float, **settings) -> Denoiser:
    return cfg_guided(demo.cond(labels), demo.uncond, scale, output=V, **settings)


def with_classifier(
    demo: Emoji, classifier: NoisyClassifier | CleanClassifier, labels: Tensor, scale: float
) -> Denoiser:
    return classifier_guided(demo.uncond, classifier, labels, scale)


@torch.no_grad()
def draw(demo: Emoji, guided: Guided, settings: Settings) -> tuple[Tensor, Tensor]:
    """(x0 [N, 4, 16, 16], labels [N]): the classes in turn, the same noise for every row of a table."""
    generator = torch.Generator().manual_seed(settings.seed)
    noise = torch.randn(settings.samples, *demo.shape, generator=generator)
    labels = torch.arange(settings.samples) % len(demo.labels)
    sigmas = trailing(demo.sigmas, settings.steps)
    parts = zip(noise.split(BATCH), labels.split(BATCH), strict=True)
    x0 = [sample(guided(labels=y), x, sigmas, settings.sampler, generator=generator) for x, y in parts]
    return torch.cat(x0), labels


@frozen
class Row:
    """A row of a table over several seeds. What each number means is told in Measure."""

    table: str
    guidance: str
    scale: float
    samples: int
    accuracy: list[float]
    frechet: list[float]
    colour: list[float]

    def __str__(self) -> str:
        shown = f"{spread(self.accuracy, 3):>18}{spread(self.frechet, 2):>16}{spread(self.colour, 2):>16}"
        return f"{self.guidance:<22}{self.scale:>6g}{shown}"


def spread(values: list[float], digits: int) -> str:
    """The mean over seeds, and half the distance between the extremes where there are several."""
    mean, half = sum(values) / len(values), (max(values) - min(values)) / 2
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if len(values) > 1 else "")


def measure_table(
    name: str, demo: Emoji, measure: Measure, settings: list[Settings]
) -> Iterator[tuple[Row, list[Tensor]]]:
    """Each row of a table over all settings (which differ in their seeds), and its images by setting."""
    for what, scale, guided in table(name, demo):
        drawn = [draw(demo, guided, setting) for setting in settings]
        images = [torch.cat([demo.to_image(part) for part in x0.split(BATCH)]) for x0, _ in drawn]
        accuracy = [measure.accuracy(shown, labels) for shown, (_, labels) in zip(images, drawn, strict=True)]
        frechet, colour = [measure.frechet(shown) for shown in images], [measure.colour(shown) for shown in images]
        yield Row(name, what, scale, settings[0].samples, accuracy, frechet, colour), images


def measure_copies(demo: Emoji, pictures: Pictures, work: Path, settings: Settings, scale: float = 3.0) -> list[Tensor]:
    """Print the share of near-copies; twenty samples and below them the training pictures that are nearest."""
    bank = load_bank(pictures, demo.vae, work / "latents.safetensors").x0
    x0, _ = draw(demo, partial(with_cfg, demo, scale=scale), settings)
    counted = copies(demo, pictures, bank, x0)
    print(
        f"near-copies (nearer than {counted.threshold:.3f} to a varied training picture, as are 90 % of true copies): "
        f"{counted.samples:.1%} of {len(x0)} samples at CFG {scale:g}, {counted.held_out:.1%} of held-out pictures"
    )
    return [demo.to_image(x0[:22]), demo.to_image(bank[nearest(x0[:22], bank)[1]])]


@torch.no_grad()
def measure_floor(demo: Emoji, pictures: Pictures, measure: Measure, count: int) -> Iterator[tuple[Row, list[Tensor]]]:
    """What real pictures reach, as they are and through the VAE: no sample can be expected to be better."""
    images, labels = drawn(pictures.of(0, 2), count, seed=13)
    through = torch.cat([demo.to_image(demo.encode(part)) for part in images.split(BATCH)])
    for what, shown in (("real pictures", images), ("through the VAE", through)):
        found = measure.accuracy(shown, labels), measure.frechet(shown), measure.colour(shown)
        yield Row("floor", what, 0.0, count, *([value] for value in found)), [shown]


def keep(rows: Iterator[tuple[Row, list[Tensor]]], file: Path | None) -> list[Tensor]:
    """Print every row, keep it in a file if there is one, and give the first images of each."""
    print(f"{'guidance':<22}{'scale':>6}{'accuracy':>18}{'Frechet':>16}{'colour':>16}", flush=True)
    shown = []
    for row, images in rows:
        print(row, flush=True)
        shown.append(images[0][:22])
        if file:
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(row)) + "\n")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m guidance_core.demo.emoji.evaluate", description=__doc__)
    parser.add_argument("--table", choices=("cfg", "methods", "classifier", "guide", "copies", "floor"), default="cfg")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--sampler", default="dpmpp_2m")
    parser.add_argument("--seeds", type=int, default=1, help="repetitions with other noise (1)")
    parser.add_argument("--sheet", type=Path, help="write the first samples of each row to this PNG file")
    parser.add_argument("--rows", type=Path, help="add the rows to this file as soon as they are measured")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder of the pictures ({WORK})")
    parser.add_argument("--half", action="store_true", help="compute the denoiser in bfloat16: twice as fast")
    parser.add_argument("--threads", type=int, default=1, help="processor cores to use (1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    demo, pictures = load(), load_pictures(arguments.work)
    if arguments.half:
        demo.network.forward = half()(demo.network.forward)  # type: ignore[method-assign]
    settings = [Settings(arguments.samples, arguments.steps, arguments.sampler, s) for s in range(arguments.seeds)]
    if arguments.table == "copies":
        shown = measure_copies(demo, pictures, arguments.work, settings[0])
    else:
        measure = Measure.of(demo, pictures)
        floor = arguments.table == "floor"
        rows = measure_floor(demo, pictures, measure, arguments.samples) if floor else None
        shown = keep(rows or measure_table(arguments.table, demo, measure, settings), arguments.rows)
    if arguments.sheet:
        write_sheet(shown, arguments.sheet)


if __name__ == "__main__":
    main()
