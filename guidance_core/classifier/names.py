"""Texts and label names that shared files bring: nothing hidden in them, and no two labels that look the same."""

import re
import unicodedata
from collections.abc import Sequence

from ..errors import GuidanceError

JOINERS = re.compile("[\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Invisible by themselves, but scripts and emoji need them: allowed, and not what makes two labels differ."""
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters other than tab and line feed
    "\ud800-\udfff\ufffe\uffff"  # half of a character, and none
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the direction of writing
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u2800\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff]"  # blank, or not there
)
MOST_COMPOSED = 1024
"""Letters, more than any label has, however its accents are written; it takes a time that grows with their square."""
SHOWN = 5
LINES = re.compile("[\t\n\u2028\u2029]")


def composed(text: str) -> str:
    """The text with every letter and its accents as one character, where there is one (Unicode's NFC).

    A text of more than MOST_COMPOSED letters, which is no label, stays as it is.
    """
    return unicodedata.normalize("NFC", text) if len(text) <= MOST_COMPOSED else text


def appearance(label: str) -> str:
    """What of a label can be seen: labels that differ in nothing else look the same."""
    return composed(" ".join(JOINERS.sub("", label).split()))


def label_fault(labels: Sequence[str]) -> str:
    """What keeps names from being labels, in words; "" where nothing does."""
    seen: dict[str, int] = {}
    for i, label in enumerate(labels):
        if HIDDEN.search(label) or LINES.search(label):
            return f"must not hold characters that cannot be seen, as {ascii(label[:80])} does"
        look = appearance(label)
        if not look:
            return f"must not be empty, as number {i + 1} is"
        if look in seen:
            first = labels[seen[look]]
            return f"must differ, and {ascii(first[:80])} and {ascii(label[:80])} look the same"
        seen[look] = i
    return ""


def some_of(labels: Sequence[str]) -> str:
    """The first labels, for one line that tells what a classifier is."""
    return ", ".join(map(repr, labels[:SHOWN])) + (", ..." if len(labels) > SHOWN else "")


def as_labels(names: Sequence[str]) -> list[str]:
    """Names as labels, composed. Raises GuidanceError where they are empty, hide characters or look the same."""
    if isinstance(names, str):
        raise GuidanceError(
            f"Label names must be a list of names, got the one text {names[:80]!r}: write [{names[:80]!r}]."
        )
    names = [composed(name) for name in names]
    if fault := label_fault(names):
        raise GuidanceError(f"Label names {fault}.")
    return names
