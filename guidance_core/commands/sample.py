"""Sample the bundled digits model, guided by CFG, by a classifier or by both, into a contact sheet."""

import argparse
import re
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from ..cfg import Method, cfg_method
from ..classifier.noisy import NoisyClassifier
from ..demo import Demo
from ..demo.many import ManyDigits
from ..denoisers import Denoiser
from ..distributed import launched, this_process
from ..drawing.images import save_images
from ..drawing.plot import check_png
from ..errors import GuidanceError, OwnError
from ..guiders import cfg_guided, classifier_guided
from ..params import Param, check_known, from_text, make, params_of
from ..sampling import SAMPLERS, steps
from ..scale import ScaleSchedule
from ..schedules import trailing
from ..shapes import SHAPES
from ..terms.classifier_guidance import ClassifierTerm
from ..terms.target_text import parse_target
from ..work_folder import WorkFolder
from . import Line

MAX_COUNT = 10_000  # digits on one sheet
MAX_SAMPLES = 10_000_000  # in a folder
SCALE = params_of(ClassifierTerm)["scale"]
NULL = "null"  # the digits model's own label for no condition
WINDOW = Param(float, None, "")  # start and end of a schedule, which are declared to be open


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--target", help="what to steer to: 'seven, -three', 'one | two', --target=-one; with --cfg one digit, or all")
    add("--classifier", default="demo", metavar="FILE", help="a classifier of digits ('demo': bundled)")
    scale = f"{SCALE.doc} ({SCALE.default:g}; with --cfg the classifier acts only where this is given)"
    add("--scale", type=float, metavar="FLOAT", help=scale)
    add("--cfg", type=float, metavar="FLOAT", help="classifier-free guidance at this scale; 1 is off, 4 is usual here")
    method = "a CFG method, such as rescale or apg:eta=0.2,momentum=0; may be given several times"
    add("--method", action="append", default=[], metavar="NAME[:PARAM=VALUE,...]", help=method)
    schedule = "how the scales change, such as cosine or interval:start=0.2,end=0.8 or power:exponent=3,low=0.5"
    add("--schedule", metavar="SHAPE[:PARAM=VALUE,...]", help=schedule)
    null = f"what CFG leads away from: '{NULL}', the model's own label for none, or a digit such as three ({NULL})"
    add("--null", metavar="LABEL", help=null)
    add("--steps", type=int, default=25, metavar="INT", help="sampling steps (25)")
    add("--sampler", choices=SAMPLERS, default="ddim", help="(ddim)")
    add("--count", type=int, default=20, metavar="INT", help="how many digits (20)")
    add("--seed", type=int, default=0, metavar="INT", help="the noise (0)")
    add("--out", type=Path, required=True, metavar="PNG|DIR", help="a contact sheet, or a folder of samples")


def run(arguments: argparse.Namespace) -> int:
    from .. import demo

    _check(arguments)
    d = demo.load()
    if not arguments.out.suffix:
        return _many(arguments, d)
    guided = _guided(arguments, d)
    generator = torch.Generator().manual_seed(arguments.seed)
    noise = torch.randn(arguments.count, *d.shape, generator=generator)
    levels, line = trailing(d.sigmas, arguments.steps), Line()
    own = {"seed": arguments.seed, "training_sigmas": d.sigmas}
    for step in steps(guided, noise, levels, arguments.sampler, generator, **own):
        line.show(f"step {step.index + 1} of {arguments.steps}", step.index + 1, arguments.steps)
    save_images(d.to_picture(step.x), arguments.out)
    print(f"Wrote '{arguments.out}'. {_read(d, d.judge(d.to_image(step.x)).argmax(1).bincount(minlength=10))}")
    return 0


def _many(arguments: argparse.Namespace, d: Demo) -> int:
    """Into a folder, in one process or under torchrun; the same command goes on there."""

    def guided(count: int) -> Denoiser:
        return _guided(argparse.Namespace(**vars(arguments) | {"count": count}), d)

    with launched(patient=True):
        process = this_process()
        work = WorkFolder(arguments.out, "sampling")
        sigmas = trailing(d.sigmas, arguments.steps)
        many = ManyDigits(d, guided, sigmas, arguments.sampler, arguments.seed, arguments.count, work)
        guided(1)  # what is refused is refused before anything is written
        plan = {name: value for name, value in vars(arguments).items() if name not in ("run", "out")}
        work.agree(plan, write=process.rank == 0)
        launch, to_do = process.agreed(work.launch), process.agreed(many.to_do)
        try:
            Line(quiet=process.rank > 0).run(many.run(to_do, process, launch), "part {done} of {count}")
        except GuidanceError as error:
            raise OwnError(str(error)) from error
        process.barrier()
        if process.rank == 0:
            print(f"Wrote {arguments.count} samples to '{arguments.out}'. {_read(d, many.read())}")
    return 0


def _read(d: Demo, counts: Tensor) -> str:
    named = zip(d.labels, counts.tolist(), strict=True)
    return f"The judge reads: {', '.join(f'{count} {name}' for name, count in named if count)}."


def _check(arguments: argparse.Namespace) -> None:
    if arguments.out.suffix:
        check_png(arguments.out)
    if arguments.count < 1 or arguments.steps < 1:
        raise GuidanceError(f"--count and --steps must be at least 1, got {arguments.count} and {arguments.steps}.")
    most = MAX_COUNT if arguments.out.suffix else MAX_SAMPLES
    if arguments.count > most:
        raise GuidanceError(f"--count must be at most {most}, got {arguments.count}.")
    if not 0 <= arguments.seed < 2**63:
        raise GuidanceError(f"--seed must be a whole number from 0 to {2**63 - 1}, got {arguments.seed}.")
    if arguments.cfg is None and (arguments.method or arguments.null is not None):
        raise GuidanceError("--method and --null belong to classifier-free guidance: give its scale, as in --cfg 4.")
    if arguments.target is None and (arguments.cfg is None or arguments.scale is not None):
        raise GuidanceError("Say what to steer to, as in --target seven, or sample every digit by CFG, as in --cfg 4.")


def _guided(arguments: argparse.Namespace, d: Demo) -> Denoiser:
    """The denoiser that the arguments ask for."""
    schedule = schedule_of(arguments.schedule) if arguments.schedule is not None else None
    denoiser, scale = d.uncond, arguments.scale
    if arguments.cfg is not None:
        methods = [method_of(words, d) for words in arguments.method]
        null = d.uncond if arguments.null in (None, NULL) else d.cond(_digit("--null", arguments.null, d))
        denoiser = cfg_guided(_asked(arguments, d), null, arguments.cfg, schedule, methods)
        if scale is None:
            return denoiser
    classifier = d.classifier if arguments.classifier == "demo" else NoisyClassifier.load(arguments.classifier)
    target = parse_target(arguments.target, classifier.labels)
    return classifier_guided(denoiser, classifier, target, SCALE.default if scale is None else scale, schedule)


def _asked(arguments: argparse.Namespace, d: Demo) -> Denoiser:
    """The conditional model: of the target, or of every digit in turn."""
    if arguments.target is None:
        return d.cond(torch.arange(arguments.count) % len(d.labels))
    return d.cond(_digit("--target with --cfg", arguments.target, d))


def _digit(option: str, words: str, d: Demo) -> int:
    if words.strip() not in d.labels:
        parse_target(words, d.labels)  # which names the label that may have been meant
        raise GuidanceError(f"{option} must be one digit, such as seven, got '{words}'.")
    return d.labels.index(words.strip())


def method_of(words: str, d: Demo) -> Method:
    """The method that `name:param=value,...` names; a condition that it needs is the null condition."""
    name, values = _named(words)
    cls = cfg_method(name)
    params = params_of(cls)
    given = {key: from_text(key, params[key], value) if key in params else value for key, value in values.items()}
    for key, param in params.items():
        if param.needed and param.socket != "conditioning":
            raise GuidanceError(f"{name} needs a {param.socket} for {key}, which the command line does not connect.")
    return make(cls, name, {key: d.uncond for key, param in params.items() if param.socket == "conditioning"} | given)


def schedule_of(words: str) -> ScaleSchedule:
    """The schedule that `shape:param=value,...` names, with the parameters of the shape and of the schedule."""
    name, values = _named(words)
    check_known("schedule shape", name, SHAPES)
    declared, own = params_of(ScaleSchedule), params_of(SHAPES[name])
    known = {field.name for field in fields(ScaleSchedule)} - {"shape"} | own.keys()
    for key in values.keys() - known:
        takes = ", ".join([*own, *sorted(known - own.keys())])
        raise GuidanceError(f"{name} has no parameter '{key}': it takes {takes}.")
    shape = SHAPES[name](**{key: from_text(key, own[key], values[key]) for key in values.keys() & own.keys()})
    window = {key: from_text(key, WINDOW, values[key]) for key in values.keys() & {"start", "end"}}
    rest = {key: from_text(key, declared[key], values[key]) for key in values.keys() & declared.keys()}
    return ScaleSchedule(shape, **window, **rest)


def _named(words: str) -> tuple[str, dict[str, str]]:
    """A name and its parameters, from `name:param=value,...`; a value may hold commas."""
    name, _, rest = words.partition(":")
    values: dict[str, str] = {}
    for pair in filter(str.strip, re.split(r",(?=\s*\w+\s*=)", rest)):
        key, equals, value = pair.partition("=")
        if not equals:
            raise GuidanceError(f"'{pair.strip()}' is no parameter: write {name.strip()}:param=value, more by comma.")
        values[key.strip()] = value.strip()
    return name.strip(), values
