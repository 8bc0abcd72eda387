"""Scores: each logit is the mean of a normal."""

import json
import math

import torch
from torch import Tensor

from ...errors import GuidanceError
from ...frozen import frozen
from .base import Head, Measured, at_labels, check_columns
from .label_format import COLUMNS


@frozen
class Regression(Head):
    """Scores: real numbers [N, K]. y are the scores, standardised; each logit is the mean of a normal of variance 1.

    Scores have no probability, so `probabilities` are the standardised scores. To steer to a score is to raise it,
    away from it to lower it: p(x) is tilted by exp(+-weight * score), and the scale says how far, in the training
    scores' standard deviations. accuracy is R^2: 1 is perfect, 0 as good as always answering the mean.
    """

    name = "regression"
    title = "scores"
    kind = ("score", "")
    rank = 2
    label_format = COLUMNS
    accuracy_name = "R^2"
    has_probabilities = False
    smooths = False
    scale_meaning = "It says how many standard deviations the score is moved, where nothing holds against it."
    shown_name = "score"
    shown_title = "score of the target"
    shown_range = (None, None)
    problem_type = "regression"

    def check(self, labels, names, fewest):
        labels = check_columns(labels, names, self)
        if not bool(labels.isfinite().all()):
            raise GuidanceError("Every score must be a finite number.")
        if len(labels) < 2 * fewest:
            raise GuidanceError(
                f"There are {len(labels)} pictures with scores, and at least {2 * fewest} different ones are needed."
            )
        for name, column in zip(names, labels.T, strict=True):
            if bool((column == column[0]).all()):
                raise GuidanceError(f"Every picture has the same score '{name}': there is nothing to learn from it.")

    def statistics(self, labels):
        labels = labels.reshape(len(labels), -1).double()
        mean, std = labels.mean(0), labels.std(0, unbiased=False).clamp(min=1e-12)
        return {"score_mean": json.dumps(mean.tolist()), "score_std": json.dumps(std.tolist())}

    def targets(self, labels, info):
        labels = labels.reshape(len(labels), -1).double()
        if "score_mean" in info:
            mean, std = (each.to(labels) for each in _mean_and_std(info))
            labels = (labels - mean) / std
        return labels.float()

    def scores(self, logits: Tensor, info: dict[str, str]) -> Tensor:
        """The predicted scores [B, K] in the units of the training scores; info: of the classifier."""
        mean, std = (each.to(logits) for each in _mean_and_std(info))
        return logits * std + mean

    def of_pictures(self, pictures, names):
        return torch.tensor([picture.scores for picture in pictures])

    def occurrences(self, labels, classes):
        return None

    def balance(self, labels):
        return torch.full((len(labels),), 1 / len(labels), dtype=torch.float64)

    def strata(self, labels):
        rank = labels.reshape(len(labels), -1)[:, 0].argsort().argsort()
        return rank * 5 // len(labels)  # fifths of the first score

    def loss(self, logits, y, smoothing=0.0):
        return (0.5 * (logits - y) ** 2).mean(1)

    def accuracy(self, logits, y):
        return (1 - (logits - y) ** 2).mean(1)

    def measure(self, logits, y):
        unexplained = (logits - y).square().sum() / (y - y.mean(0)).square().sum().clamp(min=1e-12)
        nothing = logits.new_zeros(0)
        return Measured(1 - float(unexplained), nothing, nothing)

    def chance(self, y):
        return 0.0, float(0.5 * (y - y.mean(0)).square().mean())

    def probabilities(self, logits):
        return logits

    def mean(self, logits):
        return logits.mean(0)

    def log_prob(self, logits, labels, negative):
        score = at_labels(logits, labels)
        return torch.where(negative, -score, score)

    def entropy(self, logits):
        return torch.full_like(logits[:, 0], self.max_entropy(logits.shape[1]))

    def max_entropy(self, classes):
        return 0.5 * math.log(2 * math.pi * math.e)  # of a normal of variance 1, whatever its mean

    def shown(self, log_prob):
        return log_prob

    def amount(self, shown):
        return f"{shown:.3g}"

    def in_words(self, shown):
        return f"score {self.amount(shown)}"


def _mean_and_std(info: dict[str, str]) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(json.loads(info[key]), dtype=torch.float64) for key in ("score_mean", "score_std"))
    return mean, std
