"""What to steer to: labels with weights and negatives, written as text like a prompt or given as label indices."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..classifier.heads import Head, as_head
from ..classifier.names import composed
from ..errors import GuidanceError

MARKS = re.compile(r'[,|\n():"]|^-|^\s|\s$')  # that a label in a target text needs quotes for


@dataclass(frozen=True)
class Part:
    """One label of a target: add weight * log p(label), or weight * log(1 - p(label)) when negative.

    Of a score: add weight * score, or -weight * score.
    """

    label: int
    weight: float = 1.0
    negative: bool = False


@dataclass(frozen=True)
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


@dataclass(frozen=True, eq=False)
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
    raise GuidanceError(f"A target must be int labels [B] or a Target from parse_target(text, labels), got {target!r}.")


def _check_labels(labels: Sequence[int], logits: Tensor) -> None:
    classes = logits.shape[1]
    for label in labels:
        if not 0 <= label < classes:
            raise GuidanceError(
                f"The target has the label {label}, but the classifier has {classes} classes, from 0 on."
            )


def parse_target(text: str, labels: Sequence[str], head: str | Head = "single") -> Target:
    """A target from text: labels by comma, `-label` for away from it, `(label:1.5)` for a weight, `|` between samples.

    A label with such marks in it stands in double quotes, a quote in it doubled; `written` puts them where needed.

    "seven, -three" steers every sample to seven and away from three; "seven | three" alternates over the batch. A label
    that is itself a list by comma, as ImageNet's are, is found by any of its names that no other label has.
    head: the classifier's, a Head or its name; away from the only label has no meaning where labels exclude each other.
    Raises GuidanceError for an unknown label (naming near ones), a bad weight, or an empty target.
    """
    head, rows = as_head(head), []
    for row in _split(text.strip(), r"[|\n]"):
        parts = [_part(entry.strip(), labels, head) for entry in _split(row, ",") if entry.strip()]
        if not parts:
            raise GuidanceError(f"The target '{text}' has an empty part; write at least one label, e.g. '{labels[0]}'.")
        rows.append(tuple(parts))
    return Target(tuple(rows))


def written(label: str, weight: float = 1.0, away: bool = False) -> str:
    """One label as parse_target reads it."""
    name = '"' + label.replace('"', '""') + '"' if MARKS.search(label) else label
    weighted = f"({name}:{weight:g})" if weight != 1 else name
    return f"-{weighted}" if away else weighted


def _split(text: str, at: str) -> list[str]:
    """Text split at a mark outside of double quotes; anywhere, where quotes do not pair."""
    return re.split(at if text.count('"') % 2 else rf'(?:{at})(?=(?:[^"]*"[^"]*")*[^"]*$)', text)


def _unquoted(name: str) -> str:
    name = name.strip()
    return name[1:-1].replace('""', '"') if len(name) > 2 and name[0] == name[-1] == '"' else name


def label_index(name: str, labels: Sequence[str]) -> int:
    """The index of a label as written, or else in any case. An unknown one is a GuidanceError that names near ones."""
    found = _find(name, labels)
    if found is None:
        near = difflib.get_close_matches(name.strip().lower(), [label.lower() for label in labels], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"the labels are {', '.join(labels[:20])}."
        raise GuidanceError(f"There is no label '{name.strip()}': {hint}")
    return found


def _find(name: str, labels: Sequence[str]) -> int | None:
    name, labels = composed(name), [composed(label) for label in labels]
    for said in (name, _unquoted(name)):
        for fold in (str.strip, lambda text: text.strip().lower()):
            known = [fold(label) for label in labels]
            if fold(said) in known:
                return known.index(fold(said))
    wanted = name.strip().lower()
    synonyms = [i for i, label in enumerate(labels) if wanted in map(str.strip, label.lower().split(","))]
    return synonyms[0] if wanted and len(synonyms) == 1 else None


def _part(entry: str, labels: Sequence[str], head: Head) -> Part:
    """One label with its marks, taken off from the outside in; a label that looks like a mark, such as "-1", wins."""
    name, negative, weight = entry, False, 1.0

    def starts(mark: str) -> bool:
        return name.startswith(mark) and _find(name, labels) is None

    if starts("-"):
        name, negative = name[1:].strip(), True
    if starts("(") and name.endswith(")"):
        name = name[1:-1].strip()
        if ":" in name and _find(name, labels) is None:
            name, _, text = name.rpartition(":")
            name, weight = name.strip(), _weight(text, entry)
        if starts("-"):
            name, negative = name[1:].strip(), not negative
    label = label_index(name, labels)
    if negative and head.exclusive and len(labels) < 2:
        raise GuidanceError(f"'-{name}' has no meaning: this classifier has one label only.")
    return Part(label, weight, negative)


def _weight(text: str, entry: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = float("nan")
    if not 0 < weight <= 100:
        raise GuidanceError(
            f"The weight in '{entry}' must be a number above 0 and at most 100; use -label for away from it."
        )
    return weight
