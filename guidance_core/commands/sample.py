"""Sample the digits demo from the command line, steered by a classifier, and write a contact sheet."""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..classifier.noisy import NoisyClassifier
from ..drawing.plot import check_png, write_png
from ..errors import GuidanceError
from ..guiders import classifier_guided
from ..params import params_of
from ..sampling import SAMPLERS, steps
from ..schedules import trailing
from ..terms.classifier_guidance import ClassifierTerm
from ..terms.target_text import parse_target
from . import Line

HELP = "Sample the bundled digits model, steered by a classifier, into a contact sheet."
MOST = 10_000  # digits on one sheet
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

    check_png(arguments.out)
    if arguments.count < 1 or arguments.steps < 1:
        raise GuidanceError(f"--count and --steps must be at least 1, got {arguments.count} and {arguments.steps}.")
    if arguments.count > MOST:
        raise GuidanceError(f"--count must be at most {MOST}, got {arguments.count}.")
    if not 0 <= arguments.seed < 2**63:
        raise GuidanceError(f"--seed must be a whole number from 0 to {2**63 - 1}, got {arguments.seed}.")
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
    write_png(contact_sheet(images), arguments.out)
    seen = d.judge(images).argmax(1).bincount(minlength=len(d.labels)).tolist()
    read = ", ".join(f"{count} {name}" for name, count in zip(d.labels, seen, strict=True) if count)
    print(f"Wrote '{arguments.out}'. The judge reads: {read}.")
    return 0


def contact_sheet(images: Tensor, columns: int = 10, zoom: int = 4) -> np.ndarray:
    """Images [N, H, W] in [0, 1] in rows of `columns`, enlarged, as uint8 [H, W, 3]."""
    columns = min(columns, len(images))
    blank = torch.zeros(-len(images) % columns, *images.shape[1:])
    rows = torch.cat([images.cpu(), blank]).split(columns)
    sheet = torch.cat([torch.cat(list(row), 1) for row in rows]).mul(255).round().byte()
    sheet = sheet.repeat_interleave(zoom, 0).repeat_interleave(zoom, 1)
    return sheet[:, :, None].expand(-1, -1, 3).numpy()
