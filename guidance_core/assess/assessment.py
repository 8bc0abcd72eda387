"""Assess a classifier on held-out latents: calibrate it, measure it, suggest how to use it, and write that down."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..classifier.measurements import Suggestion
from ..classifier.noisy import NoisyClassifier
from ..distributed import Process
from ..errors import GuidanceError
from ..frozen import frozen
from ..progress import Work
from .metrics import Evaluation, evaluate, even_edges
from .recommend import suggest


@frozen
class Assessment:
    """The classifier, its record filled with temperatures, measurements and suggestion; and these by themselves."""

    classifier: NoisyClassifier
    evaluation: Evaluation
    suggestion: Suggestion


def assess(
    classifier: NoisyClassifier,
    latents: Tensor,
    labels: Tensor,
    *,
    bins: Sequence[float] | None = None,
    temperature: bool = True,
    repeats: int = 1,
    batch: int = 256,
    seed: int = 0,
    process: Process | None = None,
) -> Work[Assessment]:
    """Evaluate a classifier on latents [N, C, ...] that it was not trained on; yields after every batch.

    labels: as for training (Source.labels). bins: rising log-SNR edges; by default ten over the classifier's range.
    temperature: fit temperatures anew and apply them; otherwise it keeps those that it has. repeats: draws of noise for
    each latent. process: see metrics.evaluate. A prior of the classifier's is left out of all figures, since held-out
    examples are not in its shares, and kept. Raises GuidanceError, before any work, for latents or labels that do not
    fit the classifier.
    """
    y = _prepared(classifier, labels)
    bins = list(bins) if bins is not None else even_edges(classifier.log_snr_range)
    measured = classifier.recording(prior=(), **({"temperatures": ()} if temperature else {}))
    generator = torch.Generator(latents.device).manual_seed(seed)
    work = evaluate(
        measured,
        latents,
        y,
        bins,
        head=classifier.head,
        temperature=temperature,
        generator=generator,
        repeats=repeats,
        batch=batch,
        process=process,
    )

    def run() -> Work[Assessment]:
        return _written_down(measured, classifier.record.prior, (yield from work))

    return run()


def _written_down(classifier: NoisyClassifier, prior: tuple[float, ...], evaluation: Evaluation) -> Assessment:
    suggestion = suggest(evaluation)
    classifier = classifier.recording(
        bins=evaluation.bins,
        chance=evaluation.chance,
        chance_loss=evaluation.chance_loss,
        confusion=_confusion(evaluation, suggestion),
        temperatures=evaluation.knots or classifier.record.temperatures,
        prior=prior,
        suggestion=suggestion,
    )
    return Assessment(classifier, evaluation, suggestion)


def _confusion(evaluation: Evaluation, suggestion: Suggestion) -> tuple[tuple[int, ...], ...] | None:
    """Counted where one would guide; where nowhere, at every noise level."""
    if evaluation.confusion is None:
        return None
    low, high = suggestion.log_snr_range or (-torch.inf, torch.inf)
    inside = [low <= (b.log_snr_low + b.log_snr_high) / 2 <= high for b in evaluation.bins]
    return tuple(map(tuple, evaluation.confusion[torch.tensor(inside)].sum(0).tolist()))


def _prepared(classifier: NoisyClassifier, labels: Tensor) -> Tensor:
    """Labels as users have them, as what the head's loss takes."""
    head, names = classifier.head, classifier.labels
    if fault := head.label_format.fault(labels, names):
        raise GuidanceError(f"This classifier {fault}.")
    return head.targets(labels, classifier.info)
