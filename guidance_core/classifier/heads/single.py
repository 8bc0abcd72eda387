"""Labels that exclude each other: a softmax."""

import math

import torch
from torch.nn import functional as F

from ...errors import GuidanceError
from ...frozen import frozen
from .base import Head, Measured, at_labels, check_counts
from .label_format import INDICES


@frozen
class SingleLabel(Head):
    """Labels that exclude each other: a softmax. Labels and y are long [N]."""

    name = "single"
    title = "labels that exclude each other"
    kind = ("label", ", one a picture")
    rank = 0
    label_format = INDICES
    exclusive = True
    has_prior = True
    problem_type = "single_label_classification"

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
        check_counts(self.occurrences(labels, len(names)), names, fewest)

    def occurrences(self, labels, classes):
        return labels.long().bincount(minlength=classes)

    def balance(self, labels):
        counts = labels.long().bincount()
        return 1 / (counts[labels.long()].double() * (counts > 0).sum())

    def weights(self, labels, occurrences, count):
        present = (occurrences > 0).sum()
        return (count / (present * occurrences.clamp(min=1).double())).float()[labels.long()]

    def strata(self, labels):
        return labels.long()

    def loss(self, logits, y, smoothing=0.0):
        return F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)

    def accuracy(self, logits, y):
        return (logits.argmax(1) == y).float()

    def measure(self, logits, y):
        confidence, answer = logits.softmax(1).max(1)
        right = (answer == y).float()
        return Measured(float(right.mean()), confidence, right)

    def chance(self, y):
        frequency = y.bincount().float() / len(y)
        return float(frequency.max()), float(torch.special.entr(frequency).sum())

    def confusion(self, logits, y):
        classes = logits.shape[1]
        return (y * classes + logits.argmax(1)).bincount(minlength=classes**2).reshape(classes, classes)

    def probabilities(self, logits):
        return logits.softmax(1)

    def mean(self, logits):
        return logits.log_softmax(2).logsumexp(0) - math.log(len(logits))

    def log_prob(self, logits, labels, negative):
        # log p = logsigmoid(log_odds) and log(1 - p) = logsigmoid(-log_odds) keep an exact gradient however sure the
        # classifier is, where that of a log-softmax rounds to 0 (float32: from a margin of 17 on)
        is_label = F.one_hot(labels, logits.shape[1]).bool()
        others = logits.masked_fill(is_label, torch.finfo(logits.dtype).min / 4).logsumexp(1)
        log_odds = at_labels(logits, labels) - others
        return F.logsigmoid(torch.where(negative, -log_odds, log_odds))

    def entropy(self, logits):
        log_p = logits.log_softmax(1)
        return -(log_p.exp() * log_p).sum(1)

    def max_entropy(self, classes):
        return math.log(classes)
