"""Labels found by name: as written, in any case, in quotes, or by one of the names that a label lists."""

import difflib
import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

from ..classifier.names import composed
from ..errors import GuidanceError, shortened
from ..frozen import frozen

LISTED = 20  # labels that a sentence lists
COMPARED = 32  # labels that are compared letter by letter with a name that is none
PIECES = 32  # parts of that name by which they are chosen
MAX_NAME = 200  # letters of a label, and so of a name that may be near one


@frozen
class LabelNames:
    """The names of a classifier's labels, gone through once: each name is then found at once, however many there are.

    A label that is itself a list by comma, as ImageNet's are, is found by any of its names that no other label has.
    """

    labels: Sequence[str]

    def find(self, name: str) -> int | None:
        """The index of the label of this name; None where there is none."""
        name = composed(name)
        for said in (name, unquoted(name)):
            for table, key in ((self._as_written, said.strip()), (self._in_any_case, said.strip().lower())):
                if key in table:
                    return table[key]
        return self._listed.get(name.strip().lower())

    def index(self, name: str) -> int:
        """As `find`, but an unknown name is a GuidanceError that says which are near."""
        found = self.find(name)
        if found is None:
            near = [shortened(label) for label in self._near(name.strip().lower())]
            first = [shortened(label, 40) for label in self.labels[:LISTED]]
            hint = f"did you mean {' or '.join(near)}?" if near else f"the labels are {', '.join(first)}."
            raise GuidanceError(f"There is no label '{shortened(name.strip())}': {hint}")
        return found

    @cached_property
    def _composed(self) -> list[str]:
        return list(map(composed, self.labels))

    @cached_property
    def _as_written(self) -> dict[str, int]:
        return _first(label.strip() for label in self._composed)

    @cached_property
    def _in_any_case(self) -> dict[str, int]:
        return _first(label.strip().lower() for label in self._composed)

    @cached_property
    def _listed(self) -> dict[str, int]:
        lists = [set(map(str.strip, label.lower().split(","))) - {""} for label in self._composed]
        counts = Counter(name for names in lists for name in names)
        return {name: i for i, names in enumerate(lists) for name in names if counts[name] == 1}

    def _near(self, name: str) -> list[str]:
        """Up to three labels, in lower case, that are much like a name."""
        if len(name) > MAX_NAME:
            return []
        labels = [label.lower() for label in self.labels]
        if len(labels) > COMPARED:
            pieces = list(dict.fromkeys([*map("".join, zip(name, name[1:], strict=False)), *name]))[:PIECES]

            def likeness(label: str) -> float:
                shared = sum(piece in label for piece in pieces) / max(1, len(pieces))
                return shared - abs(len(label) - len(name)) / max(1, len(label) + len(name))

            labels = heapq.nlargest(COMPARED, labels, likeness)
        return difflib.get_close_matches(name, [label[:MAX_NAME] for label in labels], n=3, cutoff=0.5)


def unquoted(name: str) -> str:
    """A name without the double quotes around it; a doubled quote in it is one."""
    name = name.strip()
    return name[1:-1].replace('""', '"') if len(name) > 2 and name[0] == name[-1] == '"' else name


def _first(names: Iterable[str]) -> dict[str, int]:
    """The first index of each name."""
    found: dict[str, int] = {}
    for i, name in enumerate(names):
        found.setdefault(name, i)
    return found
