"""What an encoding keeps beside its shards: its plan, a record of each finished unit, and who is at work on it.

encoding/plan.json        what makes the shards what they are; another plan is refused
encoding/tar-00000.json   what a scan of the first tar found
encoding/unit-00000.json  the shards of the first unit, and what of it was not used; written last of all
encoding/launch           a number that the newest launch wrote
report.csv                every image that is not used, and why
index.json                written when all units are there
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

from ..data.layouts.base import Skipped
from ..data.shards import INDEX
from ..errors import GuidanceError
from ..frozen import frozen
from ..work_folder import WorkFolder, read_json
from ..writing import write_whole

FOLDER = "encoding"


@frozen
class UnitRecord:
    """entries: of its shards, as the index has them. labels: how often each label came, by its number."""

    entries: list[dict[str, Any]]
    skipped: list[Skipped]
    labels: list[int]


@frozen
class Records(WorkFolder):
    """The records below the folder of the shards."""

    name: str = FOLDER

    def agree(self, plan: dict[str, Any], write: bool) -> None:
        if not self.begun and (self.out / INDEX).exists():
            raise GuidanceError(f"'{self.out}' already holds latent shards: choose another folder, or delete them.")
        super().agree(plan, write)

    def tar(self, number: int) -> Path:
        return self.folder / f"tar-{number:05d}.json"

    def finish(self, unit: int, record: UnitRecord) -> None:
        skipped = [[one.name, one.reason] for one in record.skipped]
        what = {"shards": record.entries, "labels": record.labels, "skipped": skipped}
        write_whole(self._unit(unit), json.dumps(what).encode())

    def finished(self, unit: int) -> UnitRecord | None:
        """The record of a unit whose shards are all there; None where it is still to be encoded."""
        found = read_json(self._unit(unit))
        if found is None or not all((self.out / entry["file"]).is_file() for entry in found["shards"]):
            return None
        return UnitRecord(found["shards"], [Skipped(*one) for one in found["skipped"]], found["labels"])

    def report(self, skipped: list[Skipped]) -> None:
        """Write the table of what is not used."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("file", "reason"))
        rows.writerows((one.name, one.reason) for one in skipped)
        write_whole(self.out / "report.csv", text.getvalue().encode("utf-8", "backslashreplace"))

    def _unit(self, unit: int) -> Path:
        return self.folder / f"unit-{unit:05d}.json"
