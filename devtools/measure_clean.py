"""Measures guidance of the digits by a network that knows clean digits alone, beside its traps and its rivals.

Its judges are the demo's own, and a support vector machine that learned from the digits that the guide never saw.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from guidance_core import VE, classifier_guided, clean_classifier, demo, sample, trailing
from guidance_core.classifier.clean import CleanClassifier
from guidance_core.classifier.copies import Copies, Noised, Shifted
from guidance_core.demo.data import LABELS, load_digits
from guidance_core.demo.guide import halves, load_guide
from guidance_core.demo.judge import frechet_distance
from guidance_core.denoisers import Denoiser
from guidance_core.frozen import frozen
from guidance_core.guiders import ClassifierGuided
from guidance_core.terms.clean_guidance import CleanTerm
from guidance_core.terms.gradient import bayes_factor

SAMPLES, FEWER, STEPS, BATCH = 1000, 400, 25, 200  # samples of the shown row, and of the others
SHOWN = "**4 shifted copies**"
ANCESTRAL, ODE = "ddpm", "ddim"


@frozen
class TrapTerm(CleanTerm):
    """The factor sigma^2 / alpha, which belongs to a gradient in x, on a gradient in denoised."""

    name = "trap"

    def factor(self, grad, sigma, path):
        return bayes_factor(sigma, path)


@dataclass(frozen=True)
class Through:
    """A clean classifier of D(x) as one of x, to guide by its gradient back through D (DPS, arXiv:2209.14687)."""

    denoiser: Denoiser
    clean: CleanClassifier

    def __call__(self, x: Tensor, sigma: Tensor, path=VE) -> Tensor:
        return self.clean(self.denoiser(x, sigma), sigma, path)


@dataclass(frozen=True)
class Setting:
    """A way of guidance and of sampling. guidance: "off", "noisy", "through", or a term of clean classifiers."""

    name: str
    guidance: str | type[CleanTerm] = CleanTerm
    scale: float = 16.0
    copies: Copies = field(default_factory=Noised)
    sampler: str = ANCESTRAL


ONE, NOISED, SHIFTED = Noised(1), Noised(4), Shifted(4)
SETTINGS = [
    Setting("unguided", "off"),
    Setting("sigma^2 / alpha at the prediction (the trap), scale 1, one copy", TrapTerm, 1.0, ONE),
    Setting("one copy, ODE", copies=ONE, sampler=ODE),
    Setting("8 noised copies, ODE", copies=Noised(8), sampler=ODE),
    Setting("4 shifted copies, ODE", copies=SHIFTED, sampler=ODE),
    Setting("one copy", copies=ONE),
    Setting("4 noised copies", copies=NOISED),
    Setting("4 copies with 0.3 of the noise", copies=Noised(4, amount=0.3)),
    Setting("4 shifted copies, scale 8", scale=8.0, copies=SHIFTED),
    Setting(SHOWN, copies=SHIFTED),
    Setting("4 shifted copies, scale 32", scale=32.0, copies=SHIFTED),
    Setting("back through the denoiser (DPS), scale 4, one copy", "through", 4.0, ONE),
    Setting("the noise-aware classifier, scale 2", "noisy", 2.0),
]


@dataclass(frozen=True)
class Row:
    """What the judges make of a setting's samples. belief: the guide's own mean probability of what was asked for."""

    name: str
    judge: float
    svm: float
    frechet: float
    diversity: float
    belief: float


class Bench:
    """The demo, the guide and the second judge."""

    def __init__(self):
        from sklearn.svm import SVC

        digits, self.held_out = load_digits()
        unseen = halves(digits)[1]
        self.demo, self.guide = demo.load(), load_guide()
        self.svm = SVC(gamma=0.01, C=10).fit(unseen.x0.flatten(1).numpy(), unseen.labels.numpy())

    def svm_accuracy(self, x0: Tensor, labels: Tensor) -> float:
        """The share that the support vector machine puts in the class that was asked for."""
        return float((torch.tensor(self.svm.predict(x0.clamp(-1, 1).flatten(1).numpy())) == labels).float().mean())

    def denoiser(self, setting: Setting, labels: Tensor) -> Denoiser:
        """The guided denoiser of a setting."""
        uncond = self.demo.uncond
        clean = clean_classifier(self.guide, LABELS, copies=setting.copies)
        if setting.guidance == "off":
            return uncond
        if setting.guidance == "noisy":
            return classifier_guided(uncond, self.demo.classifier, labels, setting.scale)
        if setting.guidance == "through":
            return classifier_guided(uncond, Through(uncond, clean), labels, setting.scale)
        return ClassifierGuided(uncond, setting.guidance(clean, labels, setting.scale))

    def measured(self, setting: Setting, samples: int, steps: int = STEPS) -> Row:
        """A setting's row, sampled in batches, the ten classes in turn."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(samples, *self.demo.shape, generator=generator)
        labels = torch.arange(samples) % len(LABELS)
        sigmas = trailing(self.demo.sigmas, steps)
        parts = [
            sample(self.denoiser(setting, wanted), some, sigmas, setting.sampler, generator, seed=i)
            for i, (some, wanted) in enumerate(zip(noise.split(BATCH), labels.split(BATCH), strict=True))
        ]
        return self.judged(setting.name, torch.cat(parts), labels)

    @torch.no_grad()
    def judged(self, name: str, x0: Tensor, labels: Tensor) -> Row:
        """The row of samples x0 that were to show labels [N]."""
        judge, images = self.demo.judge, self.demo.to_image(x0)
        return Row(
            name,
            judge.accuracy(images, labels),
            self.svm_accuracy(x0, labels),
            frechet_distance(judge.features(images), judge.features(self.held_out.images)),
            judge.diversity(images, labels),
            float(self.guide(x0).softmax(1)[range(len(labels)), labels].mean()),
        )


def rows(samples: int = SAMPLES, fewer: int = FEWER, kept: Path | None = None) -> Iterator[Row]:
    """Every row, in order: the shown one of so many samples, the others of fewer.

    Those in the file `kept` are not measured again, and new ones are added to it.
    """
    lines = kept.read_text(encoding="utf-8").splitlines() if kept and kept.exists() else []
    known = {row.name: row for row in (Row(**json.loads(line)) for line in lines)}
    bench = Bench()
    for setting in SETTINGS:
        if setting.name not in known:
            known[setting.name] = bench.measured(setting, samples if setting.name == SHOWN else fewer)
            if kept:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(known[setting.name])) + "\n")
        yield known[setting.name]
