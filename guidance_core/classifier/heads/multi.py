"""Labels that go together: a sigmoid each."""

import math

import torch
from torch.nn import functional as F

from ...errors import GuidanceError
from ...frozen import frozen
from .base import Head, Measured, at_labels, check_columns, check_counts
from .label_format import COLUMNS


@frozen
class MultiLabel(Head):
    """Labels that go together: a sigmoid each. Labels are bool or in [0, 1], [N, K]; y is float [N, K].

    Loss, entropy and accuracy are means over the labels. To balance, having a label and lacking it are one class each.
    """

    name = "multi"
    title = "labels that go together"
    kind = ("label", " that go together")
    rank = 1
    label_format = COLUMNS
    problem_type = "multi_label_classification"

    def check(self, labels, names, fewest):
        labels = check_columns(labels, names, self)
        if not bool(((labels >= 0) & (labels <= 1)).all()):
            raise GuidanceError("Labels of the head 'multi' must be 0 or 1, or lie between them.")
        has = (labels > 0.5).sum(0)
        check_counts(torch.cat([has, len(labels) - has]), [*names, *(f"not {name}" for name in names)], fewest)

    def occurrences(self, labels, classes):
        return labels.sum(0)

    def balance(self, labels):
        has = labels.reshape(len(labels), -1) > 0.5
        count = has.sum(0).double().clamp(min=1)
        lacking = (~has).sum(0).double().clamp(min=1)
        weights = torch.where(has, 1 / count, 1 / lacking).mean(1)
        return weights / weights.sum()

    def weights(self, labels, occurrences, count):
        has, lacking = occurrences.double().clamp(min=1), (count - occurrences).double().clamp(min=1)
        return torch.where(labels > 0.5, count / (2 * has), count / (2 * lacking)).mean(1).float()

    def strata(self, labels):
        has = labels.reshape(len(labels), -1) > 0.5
        count = has.sum(0).expand_as(has).masked_fill(~has, len(has) + 1)
        return torch.where(has.any(1), count.argmin(1), has.shape[1])  # its rarest label; a part for none

    def loss(self, logits, y, smoothing=0.0):
        y = y * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, y, reduction="none").mean(1)

    def accuracy(self, logits, y):
        return ((logits > 0) == (y > 0.5)).float().mean(1)

    def measure(self, logits, y):
        p = logits.sigmoid()
        right = ((logits > 0) == (y > 0.5)).float()
        return Measured(float(right.mean()), torch.maximum(p, 1 - p).flatten(), right.flatten())

    def chance(self, y):
        has = (y > 0.5).float().mean(0)
        frequency = y.float().mean(0)
        loss = F.binary_cross_entropy(frequency.expand_as(y), y.float())
        return float(torch.maximum(has, 1 - has).mean()), float(loss)

    def probabilities(self, logits):
        return logits.sigmoid()

    def mean(self, logits):
        # the logarithm of the mean probability less that of its rest: both keep their gradient near 0 and 1
        return F.logsigmoid(logits).logsumexp(0) - F.logsigmoid(-logits).logsumexp(0)

    def log_prob(self, logits, labels, negative):
        log_odds = at_labels(logits, labels)
        return F.logsigmoid(torch.where(negative, -log_odds, log_odds))

    def entropy(self, logits):
        p = logits.sigmoid()
        return -(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits)).mean(1)

    def max_entropy(self, classes):
        return math.log(2)
