"""What a head is: one meaning of logits, with everything that depends on it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ...errors import GuidanceError
from ...frozen import frozen
from .label_format import LabelFormat


class Example(Protocol):
    """What is known of one picture: the names of its labels, or its scores."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def scores(self) -> tuple[float, ...]: ...


@frozen(eq=False)
class Measured:
    """How right logits [N, K] are, over all of them.

    accuracy: at most 1. confidence [M] in [0, 1] and right [M], 0 or 1: of each answer by itself, to hold calibration
    against; both empty where there are no probabilities.
    """

    accuracy: float
    confidence: Tensor
    right: Tensor


class Head(ABC):
    """One meaning of logits [B, K]: its loss, its probabilities, and what it is to steer to a label or away from it.

    Labels come as users have them, in the head's `label_format`; y is what the loss takes, made by `targets`.

    name: in files and arguments. title: what the labels are, in words. kind: what one of them is, and what `titled`
    adds. rank: its place in lists, low first. accuracy_name: what `accuracy` is called.
    has_probabilities: whether it can be calibrated. smooths: whether labels can be smoothed. exclusive: whether a
    sample has exactly one of the labels, so that away from the only one has no meaning. has_prior: whether a prior over
    the labels is a shift of the logits, as of a softmax. scale_meaning: what a guidance scale says, as a sentence.
    shown_name: what `shown` gives. shown_title, shown_range: of a plot of it. problem_type: its name in the
    configurations of transformers.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    kind: ClassVar[tuple[str, str]] = ("label", "")
    rank: ClassVar[int] = 50
    label_format: ClassVar[LabelFormat]
    accuracy_name: ClassVar[str] = "accuracy"
    has_probabilities: ClassVar[bool] = True
    smooths: ClassVar[bool] = True
    exclusive: ClassVar[bool] = False
    has_prior: ClassVar[bool] = False
    scale_meaning: ClassVar[str] = "1 is exact Bayes, more is clearer and less varied."
    shown_name: ClassVar[str] = "target's probability"
    shown_title: ClassVar[str] = "probability of the target, % (classifier's view)"
    shown_range: ClassVar[tuple[float | None, float | None]] = (0.0, 100.0)
    problem_type: ClassVar[str | None] = None

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def check(self, labels: Tensor, names: Sequence[str], fewest: int) -> None:
        """Raise GuidanceError unless labels, one for each different picture, suffice to train on.

        fewest: the pictures that each class must have.
        """

    def statistics(self, labels: Tensor) -> dict[str, str]:
        """What a classifier's info must keep of its training labels for `targets`."""
        return {}

    def targets(self, labels: Tensor, info: dict[str, str]) -> Tensor:
        """y of labels that fit the format; info: of the classifier, with what `statistics` gave."""
        return self.label_format.kept(labels)

    def prepare(self, labels: Tensor, training: Tensor) -> tuple[Tensor, dict[str, str]]:
        """(y of all examples, what a classifier's info must keep); `training` are the indices to learn from."""
        info = self.statistics(labels[training])
        return self.targets(labels, info), info

    def of_pictures(self, pictures: Sequence[Example], names: Sequence[str]) -> Tensor:
        """The labels of pictures, among these names."""
        return self.label_format.of_names([picture.labels for picture in pictures], names)

    @abstractmethod
    def occurrences(self, labels: Tensor, classes: int) -> Tensor | None:
        """How many examples have each label, [K]; None where that is no question."""

    @abstractmethod
    def balance(self, labels: Tensor) -> Tensor:
        """How often to draw each example so that every class is seen equally often, [N], float64, sum 1."""

    def weights(self, labels: Tensor, occurrences: Tensor, count: int) -> Tensor:
        """What the loss of each example is to be multiplied by so that every class weighs the same, [N], mean 1.

        occurrences [K]: of each label among `count` examples.
        """
        return labels.new_ones(len(labels), dtype=torch.float32)

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
    def measure(self, logits: Tensor, y: Tensor) -> Measured:
        """How right and how sure the answers to a whole set are."""

    @abstractmethod
    def chance(self, y: Tensor) -> tuple[float, float]:
        """(accuracy of always giving the most frequent answer, loss of always giving the labels' frequencies)."""

    def confusion(self, logits: Tensor, y: Tensor) -> Tensor | None:
        """How often truth (row) was answered by label (column), long [K, K]; None where an answer is not one label."""
        return None

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """p(label | x), [B, K]."""

    @abstractmethod
    def mean(self, logits: Tensor) -> Tensor:
        """Logits [B, K] whose probabilities are the mean of those of logits [N, B, K]."""

    @abstractmethod
    def log_prob(self, logits: Tensor, labels: Tensor, negative: Tensor) -> Tensor:
        """log p(label | x), or log(1 - p(label | x)) where negative, [B], of one label a sample; differentiable."""

    @abstractmethod
    def entropy(self, logits: Tensor) -> Tensor:
        """Of p(y | x), in nats, [B]."""

    @abstractmethod
    def max_entropy(self, classes: int) -> float:
        """The entropy of a classifier that knows nothing."""

    def takes(self, other: "Head") -> bool:
        """Whether labels of another head are labels of this one."""
        return self == other

    def titled(self, count: int) -> str:
        """So many labels, in words."""
        one, more = self.kind
        return f"{count} {one}{'' if count == 1 else 's'}{more}"

    def shown(self, log_prob: Tensor) -> Tensor:
        """The log_prob of a target of weight 1 as people read it: its probability in percent."""
        return 100 * log_prob.exp()

    def amount(self, shown: float) -> str:
        """One such number, as it is written."""
        return f"{shown:.1f} %"

    def in_words(self, shown: float) -> str:
        """One such number, in few words."""
        return f"target {self.amount(shown)}"

    def at_the_end(self, shown: float, before: float | None = None, throughout: bool = True) -> str:
        """That of the last step that was guided, in words. before: of the first such step, where there are several.

        throughout: whether the first and the last step of the run were guided.
        """
        end, start = ("at the end", "at the start") if throughout else ("at the last guided step", "at the first")
        words = f"{self.shown_name} {end}: {self.amount(shown)}"
        return words if before is None else f"{words}, from {self.amount(before)} {start}"


def at_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """The logit of one label a sample, [B]."""
    return logits.gather(1, labels[:, None])[:, 0]


def check_columns(labels: Tensor, names: Sequence[str], head: Head) -> Tensor:
    """Labels as [N, K]. Raises GuidanceError unless there is a column for each name."""
    labels = labels.reshape(len(labels), -1)
    if len(names) < 1 or labels.shape[1] != len(names):
        raise GuidanceError(
            f"The head '{head}' needs one column of labels for each label name: got {labels.shape[1]} columns and "
            f"{len(names)} names."
        )
    return labels


def check_counts(counts: Tensor, names: Sequence[str], fewest: int) -> None:
    """Raise GuidanceError for a class, [K] by name, of which there are fewer different pictures."""
    for name, count in zip(names, counts.tolist(), strict=True):
        if count < fewest:
            have = "is 1 picture" if count == 1 else f"are {count or 'no'} pictures"
            raise GuidanceError(
                f"There {have} of '{name}', and at least {fewest} different ones are needed: add some, or leave the "
                f"label out."
            )
