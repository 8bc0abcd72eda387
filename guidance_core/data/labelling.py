"""Which names a classifier of labelled pictures has, and which head: decided by how often each label was given."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import field

from ..classifier.heads import Head
from ..classifier.heads.multi import MultiLabel
from ..classifier.heads.regression import Regression
from ..classifier.heads.single import SingleLabel
from ..errors import GuidanceError
from ..frozen import frozen
from .layouts.base import Picture, Skipped


@frozen
class Tally:
    """Labels counted over `count` pictures; several: whether some have more than one; scores: names of columns."""

    count: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    several: bool = False
    scores: tuple[str, ...] = ()

    @classmethod
    def of(cls, items: Iterable[Picture], classes: Sequence[str] = (), scores: tuple[str, ...] = ()) -> "Tally":
        """Of pictures; classes: labels that must have pictures."""
        items = list(items)
        labels = Counter(dict.fromkeys(classes, 0))
        labels.update(label for item in items for label in item.labels)
        return cls(len(items), labels, any(len(item.labels) > 1 for item in items), scores)

    def __add__(self, other: "Tally") -> "Tally":
        labels = Counter(self.labels)
        labels.update(other.labels)
        return Tally(self.count + other.count, labels, self.several or other.several, self.scores or other.scores)


@frozen
class Labelling:
    """Names of labels (or scores), the head that fits them, and tags that too few pictures have, or lack."""

    names: tuple[str, ...]
    head: Head
    left_out: tuple[str, ...] = ()


def decided(tally: Tally, minimum: int, skipped: Sequence[Skipped] = (), labels: int = 2) -> Labelling:
    """Names and head, once there are so many labels, of pictures enough each. Raises GuidanceError otherwise."""
    counts, count = tally.labels, tally.count
    if tally.scores:
        if count < minimum:
            raise GuidanceError(
                f"There are {count} pictures with scores, and at least {minimum} are needed{first(skipped)}."
            )
        return Labelling(tally.scores, Regression())
    if tally.several:
        names = tuple(sorted(name for name in counts if minimum <= counts[name] <= count - minimum))
        if not names:
            raise GuidanceError(
                f"No tag can be learned: of a tag at least {minimum} pictures must have it, and {minimum} must not"
                f"{first(skipped)}."
            )
        return Labelling(names, MultiLabel(), tuple(sorted(counts.keys() - set(names))))
    names, few = tuple(sorted(counts)), sorted(name for name in counts if counts[name] < minimum)
    if few:
        listing = ", ".join(f"'{name}' has {counts[name]}" for name in few[:10])
        raise GuidanceError(
            f"Each label needs at least {minimum} pictures: {listing}{_more(few, 10)}. Add pictures or leave the label "
            f"out{first(skipped)}."
        )
    if not names:
        raise GuidanceError(f"There is no labelled picture{first(skipped)}.")
    if len(names) < labels:
        raise GuidanceError(
            f"All pictures have the label '{names[0]}': a classifier needs at least 2 labels (or negatives made by the "
            f"model itself)."
        )
    return Labelling(names, SingleLabel())


def first(skipped: Sequence[Skipped], count: int = 3) -> str:
    """The first skipped files in brackets, for a sentence."""
    if not skipped:
        return ""
    listing = "; ".join(f"'{one.name}' {one.reason}" for one in skipped[:count])
    return f" (not used: {listing}{_more(skipped, count)})"


def _more(things: Sequence, shown: int) -> str:
    return f", and {len(things) - shown} more" if len(things) > shown else ""
