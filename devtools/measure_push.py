"""Measures how far judges push the predictions of the demos' models, by noise level: what a scale comes to.

`python -m devtools.measure_push` writes the second table of docs/clean-classifiers.md, in ten minutes.
"""

import sys
from collections.abc import Iterator
from dataclasses import field, replace

import torch

from devtools.host import ROOT
from devtools.make_readme import replaced
from guidance_core import VE, clean_classifier, demo, sample, trailing
from guidance_core.classifier.copies import Shifted
from guidance_core.demo import emoji
from guidance_core.demo.guide import load_guide
from guidance_core.frozen import frozen
from guidance_core.guiders import ClassifierGuided, Guided
from guidance_core.terms.classifier_guidance import ClassifierTerm
from guidance_core.terms.clean_guidance import CleanTerm, RootOfSize
from guidance_core.terms.judged import JudgedEvent, JudgedTerm
from guidance_core.writing import write_whole

PAGE = ROOT / "docs" / "clean-classifiers.md"
BOUNDS = (-3.0, 0.0)  # log-SNR
BANDS = ("below -3", "-3 to 0", "above 0")
CLEAN, NOISY = (1.0, 2.0), (2.0, 6.0)
SAMPLES, STEPS = 22, 20


@frozen(eq=False)
class Recorded(Guided):
    """A guided denoiser, and what its term did."""

    guided: ClassifierGuided
    events: list[JudgedEvent] = field(default_factory=list)

    def start(self, run):
        return self.guided.start(replace(run, record=self.events.append))


@frozen
class Push:
    """The median push over all steps, and over those of each band of log-SNR."""

    name: str
    scale: float
    all_steps: float
    by_band: list[float]

    @property
    def line(self) -> str:
        """A row of the table."""
        return f"| {self.name} | {self.scale:g} | {' | '.join(f'{p:.2f}' for p in (self.all_steps, *self.by_band))} |"


def settings() -> Iterator[tuple[str, object, type[JudgedTerm], object, float]]:
    """(name, demo, kind of term, classifier, scale) of every row."""
    digits, pictures = demo.load(), emoji.load()
    clean = clean_classifier(load_guide(), digits.labels, copies=Shifted(4))
    for name, d, guide in (("digits", digits, clean), ("emoji", pictures, replace(pictures.guide, copies=Shifted(4)))):
        for scale in CLEAN:
            yield f"{name}, clean guide", d, CleanTerm, guide, scale
        for scale in NOISY:
            yield f"{name}, noise-aware classifier", d, ClassifierTerm, d.classifier, scale


def measured(name: str, d, kind: type[JudgedTerm], classifier, scale: float, samples: int = SAMPLES) -> Push:
    """A row, the classes in turn, under an ancestral sampler. scale: of a clean guide in the nodes' unit."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(samples, *d.shape, generator=generator)
    labels = torch.arange(samples) % len(d.labels)
    unit = {"unit": RootOfSize()} if kind is CleanTerm else {}
    guided = Recorded(ClassifierGuided(d.uncond, kind(classifier, labels, scale, **unit)))
    sample(guided, noise, trailing(d.sigmas, STEPS), "ddpm", generator)
    pushes = torch.stack([event.push for event in guided.events])  # [steps, samples]
    band = torch.bucketize(VE.log_snr(torch.tensor([event.sigma for event in guided.events])), torch.tensor(BOUNDS))
    by_band = [float(pushes[band == i].median()) for i in range(len(BANDS))]
    return Push(name, scale, float(pushes.median()), by_band)


def main() -> int:
    """Write the table into the page."""
    lines = [
        f"| judge | scale | push, all steps | {' | '.join(f'log-SNR {band}' for band in BANDS)} |",
        "|---" * (3 + len(BANDS)) + "|",
    ]
    for setting in settings():
        lines.append(measured(*setting).line)
        print(lines[-1], flush=True)
    write_whole(PAGE, replaced(PAGE.read_text(encoding="utf-8"), "push", "\n".join(lines)).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
