"""Sample the digits demo from the command line, steered by a classifier, and write a contact sheet."""

import argparse
import os
from pathlib import Path

import torch
from torch import Tensor

from ..classifier.noisy import NoisyClassifier
from ..classifier.targets import parse_target
from ..classifier.term import ClassifierTerm
from ..errors import GuidanceError
from ..guiders import classifier_guided
from ..params import params_of
from ..sampling import SAMPLERS, steps
from ..schedules import trailing
from . import Line

HELP = "Sample the bundled digits model, steered by a classifier, into a contact sheet."
SCALE = params_of(ClassifierTerm)["scale"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--classifier", default="demo", metavar="FILE", help="a classifier of digits ('demo': bundled)")
    parser.add_argument("--target", required=True, help="what to steer to: 'seven, -three', 'one | two', --target=-one")
    parser.add_argument("--scale", type=float, default=SCALE.default, help=f"{SCALE.doc} ({SCALE.default:g})")
    parser.add_argument("--steps", type=int, default=25, metavar="INT", help="sampling steps (25)")
    parser.add_argument("--sampler", choices=SAMPLERS, default="ddim", help="(ddim)")
    parser.add_argument("--count", type=int, default=20, metavar="INT", help="how many digits (20)")
    parser.add_argument("--seed", type=int, default=0, metavar="INT", help="the noise (0)")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG", help="where the contact sheet goes")


def run(arguments: argparse.Namespace) -> int:
    from .. import demo

    if arguments.out.suffix.lower() != ".png" or not arguments.out.parent.is_dir():
        raise GuidanceError(f"--out must be a .png file in a folder that exists, got '{arguments.out}'.")
    if arguments.count < 1 or arguments.steps < 1:
        raise GuidanceError(f"--count and --steps must be at least 1, got {arguments.count} and {arguments.steps}.")
    d = demo.load()
    classifier = d.classifier if arguments.classifier == "demo" else NoisyClassifier.load(arguments.classifier)
    target = parse_target(arguments.target, classifier.labels)
    guided = classifier_guided(d.uncond, classifier, target, arguments.scale)
    generator = torch.Generator().manual_seed(arguments.seed)
    noise = torch.randn(arguments.count, *d.shape, generator=generator)
    line = Line()
    for step in steps(guided, noise, trailing(d.sigmas, arguments.steps), arguments.sampler, generator):
        line.show(f"step {step.index + 1} of {arguments.steps}", step.index + 1, arguments.steps)
    images = d.to_image(step.x)
    write_sheet(images, arguments.out)
    seen = d.judge(images).argmax(1).bincount(minlength=len(d.labels)).tolist()
    read = ", ".join(f"{count} {name}" for name, count in zip(d.labels, seen, strict=True) if count)
    print(f"Wrote '{arguments.out}'. The judge reads: {read}.")
    return 0


def write_sheet(images: Tensor, file: Path, columns: int = 10, zoom: int = 4) -> None:
    """Images [N, H, W] in [0, 1] in rows of `columns`, as a PNG file, written whole or not at all."""
    from PIL import Image

    blank = torch.zeros(-len(images) % columns if len(images) > columns else 0, *images.shape[1:])
    rows = torch.cat([images, blank]).split(columns)
    sheet = torch.cat([torch.cat(list(row), 1) for row in rows]).mul(255).round().byte().cpu().numpy()
    picture = Image.fromarray(sheet)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(part, "png")
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
