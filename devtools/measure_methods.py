"""Measures every CFG method on the bundled digits: the same noise for each, judged by a network that never guides."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from guidance_core import ScaleSchedule, cfg_guided, cfg_methods, demo, sample, trailing
from guidance_core.demo.data import load_digits
from guidance_core.demo.judge import frechet_distance
from guidance_core.denoisers import Denoiser
from guidance_core.parameterizations import V

SCALE, SAMPLES, STEPS, BATCH = 6.0, 1000, 25, 100
WEAKNESS = 0.05  # noise in the weak model's weights, as a share of each tensor's standard deviation

SCHEDULES = {
    "interval": ScaleSchedule("interval", start=2.0, end=0.2, axis="sigma"),
    "rising": ScaleSchedule("linear"),
    "falling": ScaleSchedule("linear", reverse=True),
}


@dataclass(frozen=True)
class Setting:
    """A method at its defaults, at a scale and under a schedule."""

    name: str
    method: str = "standard"
    scale: float = SCALE
    schedule: ScaleSchedule | None = None


@dataclass(frozen=True)
class Row:
    """What the judge makes of a setting's samples, what they cost, and the first ten as bytes in hexadecimal.

    excess: how far values lie outside of [-1, 1], the range of real digits, on average. passes: of a network, a sample.
    """

    name: str
    accuracy: float
    diversity: float
    frechet: float
    excess: float
    passes: float
    digits: str


def settings() -> list[Setting]:
    """Every method, feedback with a classifier too, and standard guidance switched off and under schedules."""
    made = [Setting("off", scale=1.0)]
    for name in cfg_methods():
        made.append(Setting(name, name))
        if name == "standard":
            made += [Setting(f"standard, {label}", schedule=schedule) for label, schedule in SCHEDULES.items()]
        if name == "feedback":
            made.append(Setting("feedback, classifier", name))
    return made


def weakened(strong: demo.Demo) -> demo.Demo:
    """The demo with noise in its network's weights, for autoguidance to lead away from."""
    network, generator = copy.deepcopy(strong.network), torch.Generator().manual_seed(0)
    for weight in network.parameters():
        if weight.numel() > 1:
            weight += WEAKNESS * weight.std() * torch.randn(weight.shape, generator=generator)
    return replace(strong, network=network)


def guided(setting: Setting, strong: demo.Demo, labels: Tensor, count: Callable[[Denoiser], Denoiser]) -> Denoiser:
    """A setting's denoiser for a batch, what its method needs connected; every pass of a network is counted."""
    null, negative, given = count(strong.uncond), None, {}
    if setting.name == "autoguidance":
        given = {"weak": count(weakened(strong).cond(labels))}
    elif setting.name == "perp_neg":  # away from the next class
        given, negative = {"empty": null}, count(strong.cond((labels + 1) % len(strong.labels)))
    elif setting.name == "regional":
        mask = torch.zeros(strong.shape[-2:])
        mask[4:12, 4:12] = 1
        given = {"mask": mask}
    elif setting.name == "feedback, classifier":  # batches begin with the first label
        given = {"classifier": strong.classifier, "target": " | ".join(strong.labels)}
    cond = count(strong.cond(labels))
    return cfg_guided(cond, negative or null, setting.scale, setting.schedule, setting.method, output=V, **given)


@torch.no_grad()
def measured(setting: Setting, strong: demo.Demo, samples: int, seed: int = 0) -> Row:
    """A setting's row, sampled in batches, the ten classes in turn."""
    passes, results = [], []
    noise = torch.randn(samples, *strong.shape, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(samples) % len(strong.labels)

    def count(denoiser: Denoiser) -> Denoiser:
        def counting(x: Tensor, sigma: Tensor) -> Tensor:
            passes.append(len(x))
            return denoiser(x, sigma)

        return counting

    for batch, (some, wanted) in enumerate(zip(noise.split(BATCH), labels.split(BATCH), strict=True)):
        denoiser = guided(setting, strong, wanted, count)
        results.append(sample(denoiser, some, trailing(strong.sigmas, STEPS), "ddim", seed=batch))
    return judged(setting.name, strong, torch.cat(results), labels, sum(passes) / samples)


def real(strong: demo.Demo, samples: int) -> Row:
    """The row of real digits of the training part, as many of each class: how near one can come."""
    digits = load_digits()[0]
    classes = [(digits.labels == label).nonzero()[: samples // len(strong.labels), 0] for label in range(10)]
    chosen = torch.stack(classes, 1).flatten()
    return judged("real digits", strong, digits.x0[chosen], digits.labels[chosen], 0.0)


def judged(name: str, strong: demo.Demo, x0: Tensor, labels: Tensor, passes: float) -> Row:
    """The row of samples x0 [N, 1, 16, 16] that were to show labels [N]."""
    images = strong.to_image(x0)
    held_out = load_digits()[1].images
    return Row(
        name,
        strong.judge.accuracy(images, labels),
        strong.judge.diversity(images, labels),
        frechet_distance(strong.judge.features(images), strong.judge.features(held_out)),
        float((x0.abs() - 1).clamp(min=0).mean()),
        passes,
        bytes((images[:10] * 255).round().byte().flatten().tolist()).hex(),
    )


def rows(samples: int = SAMPLES, kept: Path | None = None) -> Iterator[Row]:
    """Every row, in order; those in the file `kept` are not measured again, and new ones are added to it."""
    lines = kept.read_text(encoding="utf-8").splitlines() if kept and kept.exists() else []
    known = {row.name: row for row in (Row(**json.loads(line)) for line in lines)}
    strong = demo.load()
    for setting in [None, *settings()]:
        name = setting.name if setting else "real digits"
        if name not in known:
            known[name] = measured(setting, strong, samples) if setting else real(strong, samples)
            if kept:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(known[name])) + "\n")
        yield known[name]
