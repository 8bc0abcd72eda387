"""What to steer to: labels with weights and negatives, or label indices, and their log-probability."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..classifier.heads import Head, as_head
from ..errors import GuidanceError, shortened
from ..frozen import frozen


@frozen
class Part:
    """One label of a target: add weight * log p(label), or weight * log(1 - p(label)) when negative.

    Of a score: add weight * score, or -weight * score.
    """

    label: int
    weight: float = 1.0
    negative: bool = False


@frozen
class Target:
    """What each sample of a batch is steered to: one row of parts a sample; fewer rows than samples repeat in turn."""

    rows: tuple[tuple[Part, ...], ...]

    def log_prob(self, logits: Tensor, head: str | Head = "single") -> Tensor:
        """Weighted sum of the log-probabilities of the target's parts, [B], from logits [B, K]; differentiable.

        head: what the logits mean, a Head or its name. A label's log p is at most 0; a score ("regression") stands
        for itself, raised by `aesthetic` and lowered by `-aesthetic`: p(x) is tilted by exp(weight * score).
        """
        rows = [self.rows[i % len(self.rows)] for i in range(logits.shape[0])]
        parts = [(i, part) for i, row in enumerate(rows) for part in row]
        _check_labels([part.label for _, part in parts], logits)
        samples = torch.tensor([i for i, _ in parts], device=logits.device, dtype=torch.long)
        labels = torch.tensor([part.label for _, part in parts], device=logits.device, dtype=torch.long)
        weights = torch.tensor([part.weight for _, part in parts], device=logits.device, dtype=logits.dtype)
        negative = torch.tensor([part.negative for _, part in parts], device=logits.device, dtype=torch.bool)
        log_probs = as_head(head).log_prob(logits[samples], labels, negative)
        return torch.zeros_like(logits[:, 0]).index_add(0, samples, weights * log_probs)

    def of(self, samples: Sequence[int]) -> "Target":
        """The target of some samples of a batch."""
        return Target(tuple(self.rows[i % len(self.rows)] for i in samples))

    def unweighted(self) -> "Target":
        """The same labels, each once and with weight 1: the log_prob of one label is then a log-probability."""
        return Target(tuple(tuple(dict.fromkeys(replace(part, weight=1.0) for part in row)) for row in self.rows))


@frozen(eq=False)
class LabelTarget:
    """The plain target: one label index a sample, [B]."""

    labels: Tensor

    def log_prob(self, logits: Tensor, head: str | Head = "single") -> Tensor:
        """log p(label | x), or the label's score, [B]."""
        if len(self.labels) != len(logits):
            raise GuidanceError(
                f"There are {len(self.labels)} target labels for a batch of {len(logits)}; give one each."
            )
        labels = self.labels.clone().to(logits.device, torch.long)  # a copy, since autograd refuses inference tensors
        _check_labels(labels.tolist(), logits)
        return as_head(head).log_prob(logits, labels, torch.zeros_like(labels, dtype=torch.bool))

    def of(self, samples: Sequence[int]) -> "LabelTarget":
        """The target of some samples of a batch."""
        return LabelTarget(self.labels[list(samples)])

    def unweighted(self) -> "LabelTarget":
        """Itself: every weight is 1."""
        return self


def as_target(target: "Target | LabelTarget | Tensor") -> "Target | LabelTarget":
    """A target as given, or int labels [B] as one. Raises GuidanceError for anything else."""
    if isinstance(target, Target | LabelTarget):
        return target
    if isinstance(target, Tensor) and target.ndim == 1 and not target.is_floating_point():
        return LabelTarget(target)
    raise GuidanceError(
        f"A target must be int labels [B] or a Target from parse_target(text, labels), got {shortened(repr(target))}"
        f"{_instead(target)}."
    )


HINT = 60  # letters, or labels, up to which what was given is written once more


def _instead(target: object) -> str:
    """What to write in the place of a frequent mistake."""
    several = list(target) if isinstance(target, list | tuple) else [target]
    if several and all(isinstance(each, str) for each in several):
        text = " | ".join(map(str, several))
        return f": write parse_target({text!r}, classifier.labels)" if len(text) <= HINT else ""
    if several and all(isinstance(each, int) for each in several):
        return f": write torch.tensor({several})" if len(several) <= HINT else ""
    return ""


def _check_labels(labels: Sequence[int], logits: Tensor) -> None:
    classes = logits.shape[1]
    for label in labels:
        if not 0 <= label < classes:
            raise GuidanceError(
                f"The target has the label {label}, but the classifier has {classes} classes, from 0 on."
            )
