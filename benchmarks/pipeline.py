"""From a tar of small pictures to a judged classifier: in one process, in two, and killed three times."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from time import perf_counter

from devtools.pipeline import Launch, Pipeline, furthest, make_tar

from .measure import Row, Spread, Target

TITLE = "From a tar to a classifier"
INTRO = (
    "`encode`, `train --stream` and `evaluate` on a tar of small pictures: by one process, by two under torchrun, and "
    "by two that are all killed once in each command, at a moment drawn by chance, and launched again. Batches are "
    "computed in two pieces. Times are of whole launches, imports included."
)


def entries(quick: bool) -> Iterator[Row | str]:
    """What differs from one process, and how long each took."""
    folder = Path(tempfile.mkdtemp(prefix="pipeline-"))
    try:
        yield from _entries(folder, *(200, 16, 20) if quick else (20_000, 1024, 200))
    finally:
        shutil.rmtree(folder)


def _entries(folder: Path, count: int, shard_images: int, steps: int) -> Iterator[Row | str]:
    make_tar(folder / "pictures.tar", count)
    pipelines = {}
    for name in ("one", "two", "killed"):
        (folder / name).mkdir()
        examples = 60 if count < 1000 else 2000
        pipelines[name] = Pipeline(folder / "pictures.tar", folder / name, shard_images, steps, 64, examples)
    one = pipelines["one"]
    alone = [_timed(Launch(), command) for command in _commands(one)]
    both = [_timed(Launch(processes=2), command) for command in _commands(pipelines["two"])]
    at = _killed(pipelines["killed"], both[-1])
    ran = {"two": ("two processes", _listed(both)), "killed": ("two processes, killed three times", f"killed {at}")}
    for name, (words, made) in ran.items():
        there, here = one.content(), pipelines[name].content()
        differ = sum(there.get(file) != here.get(file) for file in {*there, *here})
        pictures = f"{count} pictures, {len(there)} files; {made}"
        yield Row(f"{words}: files of the shards that differ", Spread.of([differ]), "", Target(high=0), pictures)
        value = furthest(one.curve(), pipelines[name].curve())
        learned = f"{steps} steps of 64, loss {one.curve()[0][1]:.3f} to {one.curve()[-1][1]:.3f}"
        yield Row(f"{words}: largest difference of a loss", Spread.of([value]), "", Target(high=1e-4), learned)
        value = furthest(one.judgement(), pipelines[name].judgement())
        judged = f"accuracy {', '.join(f'{accuracy:.3f}' for accuracy, _ in one.judgement())} by noise level"
        yield Row(f"{words}: largest difference of a judgement", Spread.of([value]), "", Target(high=1e-3), judged)
    yield f"One process took {_listed(alone)}."


def _commands(pipeline: Pipeline) -> Iterator[list[object]]:
    for command in (pipeline.encode(), pipeline.train(), pipeline.evaluate()):
        yield ["-m", "guidance_core", *command]


def _timed(launch: Launch, command: list[object]) -> float:
    began = perf_counter()
    launch.run(*command)
    return perf_counter() - began


def _listed(took: list[float]) -> str:
    return f"{', '.join(f'{seconds:.0f} s' for seconds in took)} for the three commands"


def _killed(pipeline: Pipeline, judging: float) -> str:
    """When each command was killed. judging: seconds that the last one takes."""
    random, launch, at = Random(), Launch(processes=2), []
    for command, moment in zip(_commands(pipeline), _moments(pipeline, judging, random), strict=True):
        began = perf_counter()
        killed = launch.kill(moment, *command)
        at.append(f"after {perf_counter() - began:.0f} s" if killed else "too late")
        launch.run(*command)
    return ", ".join(at)


def _moments(pipeline: Pipeline, judging: float, random: Random) -> Iterator[Callable[[], bool]]:
    parts, steps, seconds = random.uniform(0.1, 0.8), random.uniform(0.1, 0.9), random.uniform(0.4, 0.9) * judging
    units, pictures = pipeline.shards / "encoding", pipeline.shard_images
    wanted = parts * (len(pipeline.tar.read_bytes()) / 2048) / pictures  # a small picture and its label take 2 KiB
    yield lambda: len(list(units.glob("unit-*"))) >= wanted
    yield lambda: pipeline.log.is_file() and len(pipeline.curve()) >= steps * pipeline.steps
    began = perf_counter()
    yield lambda: perf_counter() - began > seconds
