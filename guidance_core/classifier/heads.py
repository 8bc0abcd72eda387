"""What a classifier's logits mean: labels that exclude each other, labels that do not, or scores."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import GuidanceError


class Head(ABC):
    """One meaning of logits [B, K]: its loss, its probabilities, and what it is to steer to a label or away from it.

    Labels come as users have them ([N] or [N, K], see Source.labels); y is what the loss takes, made by `prepare`.
    """

    @abstractmethod
    def check(self, labels: Tensor, names: Sequence[str], fewest: int) -> None:
        """Raise GuidanceError unless labels, one for each different picture, suffice to train on.

        fewest: the pictures that each class must have.
        """

    @abstractmethod
    def prepare(self, labels: Tensor, training: Tensor) -> tuple[Tensor, dict[str, str]]:
        """(y of all examples, what a classifier's info must keep); `training` are the indices to learn from."""

    @abstractmethod
    def balance(self, labels: Tensor) -> Tensor:
        """How often to draw each example so that every class is seen equally often, [N], float64, sum 1."""

    @abstractmethod
    def strata(self, labels: Tensor) -> Tensor:
        """Parts from each of which a share is held out, long [N]."""

    @abstractmethod
    def loss(self, logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        """-log p(y | x) of each sample, [B]."""

    @abstractmethod
    def accuracy(self, logits: Tensor, y: Tensor) -> Tensor:
        """How right each sample is, [B], at most 1; its mean is the accuracy."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """p(label | x), [B, K]."""

    @abstractmethod
    def log_prob(self, logits: Tensor, labels: Tensor, negative: Tensor) -> Tensor:
        """log p(label | x), or log(1 - p(label | x)) where negative, [B], of one label a sample; differentiable."""

    @abstractmethod
    def entropy(self, logits: Tensor) -> Tensor:
        """Of p(y | x), in nats, [B]."""

    @abstractmethod
    def max_entropy(self, classes: int) -> float:
        """The entropy of a classifier that knows nothing."""


class SingleLabel(Head):
    """Labels that exclude each other: a softmax. Labels and y are long [N]."""

    def check(self, labels, names, fewest):
        if len(names) < 2:
            raise GuidanceError(f"A classifier needs at least 2 labels, got {len(names)}.")
        if labels.ndim != 1 or labels.is_floating_point():
            raise GuidanceError(
                f"A classifier of labels that exclude each other needs whole numbers [N] as labels, got "
                f"{list(labels.shape)} {labels.dtype}; for several labels a picture, choose the head 'multi'."
            )
        wrong = labels[(labels < 0) | (labels >= len(names))]
        if len(wrong):
            raise GuidanceError(
                f"Labels must be indices from 0 to {len(names) - 1}, one for each label name; got {int(wrong[0])}."
            )
        _check_counts(labels.long().bincount(minlength=len(names)), names, fewest)

    def prepare(self, labels, training):
        return labels.long(), {}

    def balance(self, labels):
        counts = labels.long().bincount()
        return 1 / (counts[labels.long()].double() * (counts > 0).sum())

    def strata(self, labels):
        return labels.long()

    def loss(self, logits, y, smoothing=0.0):
        return F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)

    def accuracy(self, logits, y):
        return (logits.argmax(1) == y).float()

    def probabilities(self, logits):
        return logits.softmax(1)

    def log_prob(self, logits, labels, negative):
        # log p = logsigmoid(log_odds) and log(1 - p) = logsigmoid(-log_odds) keep an exact gradient however sure the
        # classifier is, where that of a log-softmax rounds to 0 (float32: from a margin of 17 on)
        is_label = F.one_hot(labels, logits.shape[1]).bool()
        others = logits.masked_fill(is_label, torch.finfo(logits.dtype).min / 4).logsumexp(1)
        log_odds = _of(logits, labels) - others
        return F.logsigmoid(torch.where(negative, -log_odds, log_odds))

    def entropy(self, logits):
        log_p = logits.log_softmax(1)
        return -(log_p.exp() * log_p).sum(1)

    def max_entropy(self, classes):
        return math.log(classes)


class MultiLabel(Head):
    """Labels that go together: a sigmoid each. Labels are bool or in [0, 1], [N, K]; y is float [N, K].

    Loss, entropy and accuracy are means over the labels. To balance, having a label and lacking it are one class each.
    """

    def check(self, labels, names, fewest):
        labels = _columns(labels, names, "multi")
        if not bool(((labels >= 0) & (labels <= 1)).all()):
            raise GuidanceError("Labels of the head 'multi' must be 0 or 1, or lie between them.")
        has = (labels > 0.5).sum(0)
        _check_counts(torch.cat([has, len(labels) - has]), [*names, *(f"not {name}" for name in names)], fewest)

    def prepare(self, labels, training):
        return labels.reshape(len(labels), -1).float(), {}

    def balance(self, labels):
        has = labels.reshape(len(labels), -1) > 0.5
        count = has.sum(0).double().clamp(min=1)
        lacking = (~has).sum(0).double().clamp(min=1)
        weights = torch.where(has, 1 / count, 1 / lacking).mean(1)
        return weights / weights.sum()

    def strata(self, labels):
        has = labels.reshape(len(labels), -1) > 0.5
        count = has.sum(0).expand_as(has).masked_fill(~has, len(has) + 1)
        return torch.where(has.any(1), count.argmin(1), has.shape[1])  # its rarest label; a part for none

    def loss(self, logits, y, smoothing=0.0):
        y = y * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, y, reduction="none").mean(1)

    def accuracy(self, logits, y):
        return ((logits > 0) == (y > 0.5)).float().mean(1)

    def probabilities(self, logits):
        return logits.sigmoid()

    def log_prob(self, logits, labels, negative):
        log_odds = _of(logits, labels)
        return F.logsigmoid(torch.where(negative, -log_odds, log_odds))

    def entropy(self, logits):
        p = logits.sigmoid()
        return -(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits)).mean(1)

    def max_entropy(self, classes):
        return math.log(2)


class Regression(Head):
    """Scores: real numbers [N, K]. y are the scores, standardised; each logit is the mean of a normal of variance 1.

    Scores have no probability, so `probabilities` are the standardised scores. To steer to a score is to raise it,
    away from it to lower it: p(x) is tilted by exp(+-weight * score), and the scale says how far, in the training
    scores' standard deviations. accuracy is R^2: 1 is perfect, 0 as good as always answering the mean.
    """

    def check(self, labels, names, fewest):
        labels = _columns(labels, names, "regression")
        if not bool(labels.isfinite().all()):
            raise GuidanceError("Every score must be a finite number.")
        if len(labels) < 2 * fewest:
            raise GuidanceError(
                f"There are {len(labels)} pictures with scores, and at least {2 * fewest} different ones are needed."
            )
        for name, column in zip(names, labels.T, strict=True):
            if bool((column == column[0]).all()):
                raise GuidanceError(f"Every picture has the same score '{name}': there is nothing to learn from it.")

    def prepare(self, labels, training):
        labels = labels.reshape(len(labels), -1).double()
        mean, std = labels[training].mean(0), labels[training].std(0, unbiased=False).clamp(min=1e-12)
        info = {"score_mean": json.dumps(mean.tolist()), "score_std": json.dumps(std.tolist())}
        return ((labels - mean) / std).float(), info

    @staticmethod
    def standardised(scores: Tensor, info: dict[str, str]) -> Tensor:
        """Scores [N, K] in the units of the logits, by the info of a trained classifier."""
        mean, std = (torch.tensor(json.loads(info[key])).to(scores.device) for key in ("score_mean", "score_std"))
        return (scores.reshape(len(scores), -1) - mean) / std

    @staticmethod
    def scores(logits: Tensor, info: dict[str, str]) -> Tensor:
        """The predicted scores [B, K] in the units of the training scores."""
        mean, std = (torch.tensor(json.loads(info[key])).to(logits.device) for key in ("score_mean", "score_std"))
        return logits * std + mean

    def balance(self, labels):
        return torch.full((len(labels),), 1 / len(labels), dtype=torch.float64)

    def strata(self, labels):
        rank = labels.reshape(len(labels), -1)[:, 0].argsort().argsort()
        return rank * 5 // len(labels)  # fifths of the first score

    def loss(self, logits, y, smoothing=0.0):
        return (0.5 * (logits - y) ** 2).mean(1)

    def accuracy(self, logits, y):
        return (1 - (logits - y) ** 2).mean(1)

    def probabilities(self, logits):
        return logits

    def log_prob(self, logits, labels, negative):
        score = _of(logits, labels)
        return torch.where(negative, -score, score)

    def entropy(self, logits):
        return torch.full_like(logits[:, 0], self.max_entropy(logits.shape[1]))

    def max_entropy(self, classes):
        return 0.5 * math.log(2 * math.pi * math.e)  # of a normal of variance 1, whatever its mean


HEADS: dict[str, Head] = {"single": SingleLabel(), "multi": MultiLabel(), "regression": Regression()}


def _of(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None])[:, 0]


def _columns(labels: Tensor, names: Sequence[str], head: str) -> Tensor:
    labels = labels.reshape(len(labels), -1)
    if len(names) < 1 or labels.shape[1] != len(names):
        raise GuidanceError(
            f"The head '{head}' needs one column of labels for each label name: got {labels.shape[1]} columns and "
            f"{len(names)} names."
        )
    return labels


def _check_counts(counts: Tensor, names: Sequence[str], fewest: int) -> None:
    for name, count in zip(names, counts.tolist(), strict=True):
        if count < fewest:
            have = "is 1 picture" if count == 1 else f"are {count or 'no'} pictures"
            raise GuidanceError(
                f"There {have} of '{name}', and at least {fewest} different ones are needed: add some, or leave the "
                f"label out."
            )
