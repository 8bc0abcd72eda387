"""Self-made negatives: a few pictures of a style against samples of the model itself, so that no other class is needed.

negatives = run_to_end(draw_negatives(draw_from(d.uncond, d.shape, trailing(d.sigmas, 25)), 400))
for trained in train_against_negatives({"my style": pictures}, negatives): ...
trained.classifier.save("my-style.safetensors")    # labels: "my style", "other"

Why it steers well. Between pictures p(x | style) and samples p(x) a balanced classifier learns the odds p(x | style) /
p(x), whose gradient is exactly that of log p(style | x), even though p(x) has some of the style in it. The gradient of
the classifier's own log-probability, however, is (1 - probability) times that: it fades as soon as x is more like the
style than the average sample. So the classifier is given a prior that says how rare the style is (`with_prior`):
the smaller it is, the closer the gradient is to that of the odds. So few pictures make a weak classifier all the same:
it suggests a scale of 4 in its file, where one trained on hundreds needs 2.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..classifier.heads import as_head
from ..classifier.measurements import Suggestion
from ..classifier.noisy import NoisyClassifier
from ..data.sources import TensorSource
from ..denoisers import Denoiser
from ..errors import GuidanceError
from ..paths import VE, NoisePath
from ..progress import Progress, Work
from ..sampling import sample
from .loop import Training, TrainStep, train_classifier
from .settings import OTHER, PRIOR

SCALE = 4.0
KEY = "expected_share"  # of a prior, in the training record of a file
Draw = Callable[[int, torch.Generator], Tensor]
"""(count, generator) -> clean samples [count, C, ...] of a model, in the sampler's scale."""


def draw_from(
    denoiser: Denoiser, shape: tuple[int, ...], sigmas: Tensor, sampler: str = "ddim", path: NoisePath = VE
) -> Draw:
    """Draws samples [count, *shape] from a denoiser. sigmas: the noise levels of the steps, as for `sample`."""

    def draw(count: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn((count, *shape), generator=generator, device=generator.device)
        return sample(denoiser, noise, sigmas, sampler, generator, path=path)

    return draw


def draw_negatives(draw: Draw, count: int, *, batch: int = 20, seed: int = 0) -> Work[Tensor]:
    """Draw `count` samples, `batch` at a time, from one generator seeded by `seed`; returns [count, C, ...] on the CPU.

    Raises GuidanceError for a count below 1, and for samples that are not finite or not as many as asked for.
    """
    if count < 1 or batch < 1:
        raise GuidanceError(f"The number of negatives and their batch must be at least 1, got {count} and {batch}.")
    return _draw(draw, count, batch, torch.Generator().manual_seed(seed))


def _draw(draw: Draw, count: int, batch: int, generator: torch.Generator) -> Work[Tensor]:
    parts: list[Tensor] = []
    for start in range(0, count, batch):
        wanted = min(batch, count - start)
        part = draw(wanted, generator).detach().cpu()
        if part.ndim not in (4, 5) or len(part) != wanted or not bool(part.isfinite().all()):
            raise GuidanceError(
                f"The model must draw {wanted} finite samples [{wanted}, C, ...]; it drew {list(part.shape)}"
                f"{'' if bool(part.isfinite().all()) else ', not all finite'}."
            )
        parts.append(part)
        yield Progress(start + wanted, count)
    return torch.cat(parts)


def against(examples: Mapping[str, Tensor], negatives: Tensor, other: str = OTHER) -> tuple[TensorSource, list[str]]:
    """(source, label names): latents [n, C, ...] by label, and negatives [N, C, ...] under the label `other`, the last.

    Raises GuidanceError without examples, where a label is `other`, or where shapes differ.
    """
    if not examples or other in examples:
        raise GuidanceError(f"Give latents by label, and no label '{other}': that is the negatives'.")
    classes = [*examples.items(), (other, negatives)]
    for name, latents in classes:
        if latents.shape[1:] != negatives.shape[1:]:
            raise GuidanceError(
                f"Examples and negatives must have one shape: '{name}' has {list(latents.shape[1:])}, the negatives "
                f"have {list(negatives.shape[1:])}. Draw the samples at the size of the pictures."
            )
    labels = torch.cat([torch.full((len(latents),), i) for i, (_, latents) in enumerate(classes)])
    latents = torch.cat([latents.detach().to(negatives) for _, latents in classes])
    return TensorSource(latents, labels), [name for name, _ in classes]


def train_against_negatives(
    examples: Mapping[str, Tensor], negatives: Tensor, *, other: str = OTHER, prior: float = PRIOR, **options: Any
) -> Training:
    """As train_classifier on `against`; the classifiers of its steps have the prior of `with_prior`.

    options: those of train_classifier. The classes must stay balanced, or the few examples drown among the negatives.
    Hold nothing out of few examples: the weights that do best on a handful of them steer badly.
    """
    _check_prior(prior, len(examples))
    source, names = against(examples, negatives, other)
    if not as_head(options.get("head", "single")).has_prior or not options.get("balance", True):
        raise GuidanceError(
            "Negatives need the head 'single' and balanced classes: leave head and balance as they are."
        )
    return steps_with_prior(train_classifier(source, label_names=names, **options), prior, other)


def steps_with_prior(steps: Training, prior: float = PRIOR, other: str = OTHER) -> Training:
    """The steps of a training, their classifiers with the prior of `with_prior`."""
    with closing(steps):  # a checkpoint is written when they are closed
        for step in steps:
            classifier = step.classifier and with_prior(step.classifier, prior, other)
            yield replace(step, classifier=classifier, best=partial(_best_with_prior, step, prior, other))


def _best_with_prior(step: TrainStep, prior: float, other: str) -> NoisyClassifier:
    return with_prior(step.best(), prior, other)


def with_prior(classifier: NoisyClassifier, prior: float = PRIOR, other: str = OTHER) -> NoisyClassifier:
    """A classifier trained on balanced classes, as it answers where each label but `other` has this prior probability.

    That is Bayes' rule under another prior, which its record keeps. prior: about how often the model makes the style by
    itself; a smaller one steers harder once the style shows. Its record suggests the scale SCALE.
    Raises GuidanceError for a prior out of range, for a classifier without the label `other` or one that has a prior
    already, and for one whose classes were not balanced.
    """
    labels = list(classifier.labels)
    if other not in labels or not classifier.head.has_prior:
        raise GuidanceError(f"Only a classifier of the head 'single' with a label '{other}' can be given a prior.")
    _check_prior(prior, len(labels) - 1)
    training = classifier.record.training
    if KEY in training:
        raise GuidanceError(f"This classifier already has a prior of {training[KEY]} for each label.")
    if not training.get("balance", True):
        raise GuidanceError("This classifier was trained without balance: its classes have another prior already.")
    rest = 1 - prior * (len(labels) - 1)
    shares = tuple(rest if name == other else prior for name in labels)
    reason = f"Trained on the model's own samples as '{other}': begin with a scale of {SCALE:g}."
    suggestion = Suggestion(SCALE, classifier.log_snr_range, reason)
    return classifier.recording(training=training | {KEY: prior}, prior=shares, suggestion=suggestion)


def _check_prior(prior: float, classes: int) -> None:
    if not 0 < prior * classes < 1:
        raise GuidanceError(
            f"The prior of each label must be above 0, and all {classes} below 1 together; got {prior}."
        )
