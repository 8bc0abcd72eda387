"""Learn a schedule of CFG for the bundled digits: as often right and as varied as real ones, by the judge."""

import argparse
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ..demo import Demo
from ..drawing.plot import BLUE, Line, Panel, check_png, picture, write_png
from ..errors import GuidanceError
from ..guiders import cfg_guided
from ..sampling import SAMPLERS, sample
from ..scale import ScaleSchedule
from ..schedules import trailing
from ..shapes import Keyframes
from ..train.schedule import learn_schedule
from . import Line as ProgressLine

DRAWN = 100  # places of the curve that is drawn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cfg", type=float, default=4.0, metavar="FLOAT", help="the scale that the schedule is of (4)")
    add("--points", type=int, default=4, metavar="INT", help="keyframes, spread evenly over the steps (4)")
    add("--rounds", type=int, default=4, metavar="INT", help="how often each is moved at most (4)")
    add("--count", type=int, default=200, metavar="INT", help="digits a trial (200)")
    add("--steps", type=int, default=12, metavar="INT", help="sampling steps (12)")
    add("--sampler", choices=SAMPLERS, default="ddim", help="(ddim)")
    add("--seed", type=int, default=0, metavar="INT", help="the noise of the trials; it is judged on other noise (0)")
    add("--out", type=Path, metavar="PNG", help="draw the curve")


def run(arguments: argparse.Namespace) -> int:
    from .. import demo

    if arguments.count < 20 or arguments.steps < 1:
        raise GuidanceError(
            f"--count must be at least 20, two of each digit, and --steps at least 1, got {arguments.count} and "
            f"{arguments.steps}."
        )
    if arguments.out:
        check_png(arguments.out)
    d, line = demo.load(), ProgressLine()

    def judged(schedule: ScaleSchedule, seed: int) -> tuple[float, float]:
        return judgement(d, schedule, arguments, seed)

    def score(schedule: ScaleSchedule) -> float:
        accuracy, diversity = judged(schedule, arguments.seed)
        return (1 - accuracy) + abs(1 - diversity)

    work = learn_schedule(score, arguments.points, arguments.rounds)
    learned = line.run(work, "trial {done} of at most {count}: {score:.4f}")
    for name, schedule in (("constant", ScaleSchedule()), ("learned", learned)):
        accuracy, diversity = judged(schedule, arguments.seed + 1)
        print(f"{name:9} judge accuracy {accuracy:.1%}, diversity {diversity:.2f}")
    points = cast(Keyframes, learned.shape).points
    print(f"Scale Schedule, shape keyframes, axis step: {points}")
    print(f"python -m guidance_core sample --cfg {arguments.cfg:g} --schedule 'keyframes:points={points}' --out a.png")
    if arguments.out:
        write_png(curve(learned, arguments.steps), arguments.out)
    return 0


@torch.no_grad()
def judgement(d: Demo, schedule: ScaleSchedule, arguments: argparse.Namespace, seed: int) -> tuple[float, float]:
    """(accuracy, diversity) of the digits that CFG under a schedule draws, each as often as the others."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(arguments.count, *d.shape, generator=generator)
    labels: Tensor = torch.arange(arguments.count) % len(d.labels)
    guided = cfg_guided(d.cond(labels), d.uncond, arguments.cfg, schedule)
    x0 = sample(guided, noise, trailing(d.sigmas, arguments.steps), arguments.sampler, generator)
    images = d.to_image(x0)
    return d.judge.accuracy(images, labels), d.judge.diversity(images, labels)


def curve(schedule: ScaleSchedule, steps: int):
    """A picture of a schedule over the steps, uint8 [H, W, 3]."""
    strengths = [float(schedule(i / (DRAWN - 1))) for i in range(DRAWN)]
    ticks = ((0.0, "0, the first step"), (1.0, "1, the last step"))
    return picture([Panel("strength, learned", [Line(strengths, BLUE)], low=0.0, ticks=ticks)])
