"""What to steer to: labels with weights and negatives, written as text like a prompt or given as label indices."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..errors import GuidanceError


@dataclass(frozen=True)
class Part:
    """One label of a target: add weight * log p(label), or weight * log(1 - p(label)) when negative."""

    label: int
    weight: float = 1.0
    negative: bool = False


@dataclass(frozen=True)
class Target:
    """What each sample of a batch is steered to: one row of parts a sample; fewer rows than samples repeat in turn."""

    rows: tuple[tuple[Part, ...], ...]

    def log_prob(self, logits: Tensor) -> Tensor:
        """Weighted log-probability of the target under softmax, [B], from logits [B, K]; differentiable and bounded above."""
        rows = [self.rows[i % len(self.rows)] for i in range(logits.shape[0])]
        parts = [(i, part) for i, row in enumerate(rows) for part in row]
        samples = torch.tensor([i for i, _ in parts], device=logits.device)
        labels = torch.tensor([part.label for _, part in parts], device=logits.device)
        weights = torch.tensor([part.weight for _, part in parts], device=logits.device, dtype=logits.dtype)
        negative = torch.tensor([part.negative for _, part in parts], device=logits.device)
        chosen = logits[samples]
        is_label = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
        inside = chosen.masked_fill(is_label == negative[:, None], -torch.inf).logsumexp(1)
        log_probs = inside - chosen.logsumexp(1)
        return torch.zeros_like(logits[:, 0]).index_add(0, samples, weights * log_probs)


@dataclass(frozen=True, eq=False)
class LabelTarget:
    """The plain target: one label index a sample, [B]."""

    labels: Tensor

    def log_prob(self, logits: Tensor) -> Tensor:
        """log p(label | x), [B]."""
        if len(self.labels) != len(logits):
            raise GuidanceError(
                f"There are {len(self.labels)} target labels for a batch of {len(logits)}; give one each."
            )
        return logits.log_softmax(1).gather(1, self._column.to(logits.device))[:, 0]

    @cached_property
    def _column(self) -> Tensor:
        return self.labels.detach().clone().long()[:, None]


def as_target(target: "Target | LabelTarget | Tensor") -> "Target | LabelTarget":
    """A target as given, or int labels [B] as one."""
    return LabelTarget(target) if isinstance(target, Tensor) else target


PART = re.compile(
    r"""(?P<outer>-?)\s*(?:
        \(\s*(?P<inner>-?)\s*(?P<weighted>[^()]+?)\s*(?::\s*(?P<weight>[^():]+?)\s*)?\)   # (label:weight)
        |(?P<bare>[^()]+?)                                                                # label
    )\s*""",
    re.VERBOSE,
)


def parse_target(text: str, labels: Sequence[str]) -> Target:
    """A target from text: labels by comma, `-label` for away from it, `(label:1.5)` for a weight, `|` between samples.

    "seven, -three" steers every sample to seven and away from three; "seven | three" alternates over the batch.
    Raises GuidanceError for an unknown label (naming near ones), a bad weight, or an empty target.
    """
    rows = []
    for row in re.split(r"[|\n]", text.strip()):
        parts = [_part(entry.strip(), labels) for entry in row.split(",") if entry.strip()]
        if not parts:
            raise GuidanceError(f"The target '{text}' has an empty part; write at least one label, e.g. '{labels[0]}'.")
        rows.append(tuple(parts))
    return Target(tuple(rows))


def label_index(name: str, labels: Sequence[str]) -> int:
    """The index of a label, whatever its case. Raises GuidanceError for an unknown one, naming near ones."""
    index = {label.strip().lower(): i for i, label in enumerate(labels)}
    wanted = name.strip().lower()
    if wanted not in index:
        near = difflib.get_close_matches(wanted, index, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"the labels are {', '.join(labels[:20])}."
        raise GuidanceError(f"There is no label '{name.strip()}': {hint}")
    return index[wanted]


def _part(entry: str, labels: Sequence[str]) -> Part:
    if entry.lower() in (label.strip().lower() for label in labels):  # a label that looks like syntax: "(other)"
        return Part(label_index(entry, labels))
    match = PART.fullmatch(entry)
    if match is None:
        raise GuidanceError(f"'{entry}' is not a target; write label, -label or (label:1.5), separated by commas.")
    name = (match["weighted"] or match["bare"]).strip()
    label = label_index(name, labels)
    negative = bool(match["outer"]) != bool(match["inner"])
    if negative and len(labels) < 2:
        raise GuidanceError(f"'-{name}' has no meaning: this classifier has one label only.")
    return Part(label, _weight(match["weight"], entry), negative)


def _weight(text: str | None, entry: str) -> float:
    if text is None:
        return 1.0
    try:
        weight = float(text)
    except ValueError:
        weight = float("nan")
    if not 0 < weight <= 100:
        raise GuidanceError(
            f"The weight in '{entry}' must be a number above 0 and at most 100; use -label for away from it."
        )
    return weight
