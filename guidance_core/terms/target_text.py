"""Targets as text, written like a prompt: `seven, -three`, `(seven:1.5) | three`. Read in one pass."""

import re
from collections.abc import Sequence

from ..classifier.heads import Head, as_head
from ..classifier.names import composed
from ..errors import GuidanceError, shortened
from .label_names import LabelNames, unquoted
from .targets import Part, Target

MARKS = re.compile(r'[,|\n():"]|^-|^\s|\s$')  # that a label in a target text needs quotes for
MAX_LETTERS = 2**16
MAX_ALTERNATIVES = 4096  # the most that ComfyUI's batches hold
MAX_PARTS = 256  # of one alternative


def parse_target(text: str, labels: Sequence[str], head: str | Head = "single") -> Target:
    """A target from text: labels by comma, `-label` for away from it, `(label:1.5)` for a weight, `|` between samples.

    A label with such marks in it stands in double quotes, a quote in it doubled; `written` puts them where needed.

    "seven, -three" steers every sample to seven and away from three; "seven | three" alternates over the batch. A label
    that is itself a list by comma, as ImageNet's are, is found by any of its names that no other label has.
    head: the classifier's, a Head or its name; away from the only label has no meaning where labels exclude each other.
    Raises GuidanceError for an unknown label (naming near ones), a bad weight, an empty target, or one of more than
    MAX_LETTERS, MAX_ALTERNATIVES or MAX_PARTS.
    """
    head, names = as_head(head), LabelNames(labels)
    rows = _entries(text, labels[0] if labels else "seven")
    return Target(tuple(tuple(_part(entry, names, head) for entry in row) for row in rows))


def labels_in(text: str) -> tuple[str, ...]:
    """The labels that a target names, each once, for a classifier that knows any: parse_target then finds them.

    Raises GuidanceError as parse_target does, and for more than MAX_PARTS.
    """
    none = LabelNames(())
    found: dict[str, str] = {}
    for entry in (entry for row in _entries(text, "a smiling face") for entry in row):
        name = unquoted(composed(_unmarked(entry, none)[0])).strip()
        if not name:
            raise GuidanceError(f"The target '{shortened(text)}' has marks without a label in '{shortened(entry)}'.")
        found.setdefault(name.lower(), name)
    _at_most(MAX_PARTS, len(found), "labels")
    return tuple(found.values())


def written(label: str, weight: float = 1.0, away: bool = False) -> str:
    """One label as parse_target reads it."""
    name = '"' + label.replace('"', '""') + '"' if MARKS.search(label) else label
    weighted = f"({name}:{weight:g})" if weight != 1 else name
    return f"-{weighted}" if away else weighted


def _entries(text: str, example: str) -> list[list[str]]:
    """The labels with their marks, alternative by alternative."""
    if not isinstance(text, str):
        raise GuidanceError(f"A target is written as text, such as 'seven, -three', got {shortened(repr(text))}.")
    _at_most(MAX_LETTERS, len(text), "letters")
    alternatives = _split(text.strip(), "|\n")
    _at_most(MAX_ALTERNATIVES, len(alternatives), "alternatives")
    rows = [[entry.strip() for entry in _split(row, ",") if entry.strip()] for row in alternatives]
    for row in rows:
        _at_most(MAX_PARTS, len(row), "labels for one sample")
        if not row:
            label = f"write at least one label, e.g. '{shortened(example)}'."
            if not text.strip():
                raise GuidanceError(f"The target is empty; {label}")
            raise GuidanceError(f"The target '{shortened(text)}' has an empty part; {label}")
    return rows


def _at_most(most: int, count: int, what: str) -> None:
    if count > most:
        raise GuidanceError(f"A target may have {most} {what} at most, and this one has {count}: shorten it.")


def _split(text: str, marks: str) -> list[str]:
    """Text split at marks outside of double quotes; anywhere, where quotes do not pair."""
    paired, quoted = text.count('"') % 2 == 0, False
    parts, begin = [], 0
    for mark in re.finditer(f'["{marks}]', text):
        if mark[0] == '"':
            quoted = paired and not quoted
        elif not quoted:
            parts.append(text[begin : mark.start()])
            begin = mark.end()
    return [*parts, text[begin:]]


def _part(entry: str, names: LabelNames, head: Head) -> Part:
    """One label with its marks."""
    name, weight, negative = _unmarked(entry, names)
    label = names.index(name)
    if negative and head.exclusive and len(names.labels) < 2:
        raise GuidanceError(f"'-{shortened(name)}' has no meaning: this classifier has one label only.")
    return Part(label, weight, negative)


def _unmarked(entry: str, names: LabelNames) -> tuple[str, float, bool]:
    """(name, weight, away): marks taken off from the outside in; a label that looks like a mark, such as "-1", wins."""
    name, negative, weight = entry, False, 1.0

    def starts(mark: str) -> bool:
        return name.startswith(mark) and names.find(name) is None

    if starts("-"):
        name, negative = name[1:].strip(), True
    if starts("(") and name.endswith(")"):
        name = name[1:-1].strip()
        if ":" in name and names.find(name) is None:
            name, _, text = name.rpartition(":")
            name, weight = name.strip(), _weight(text, entry)
        if starts("-"):
            name, negative = name[1:].strip(), not negative
    return name, weight, negative


def _weight(text: str, entry: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = float("nan")
    if not 0 < weight <= 100:
        raise GuidanceError(
            f"The weight in '{shortened(entry)}' must be a number above 0 and at most 100; use -label for away from it."
        )
    return weight
