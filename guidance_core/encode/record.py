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
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.layouts.base import Skipped
from ..data.shards import INDEX
from ..errors import GuidanceError, shortened
from ..writing import write_whole

FOLDER = "encoding"


@dataclass(frozen=True)
class UnitRecord:
    """entries: of its shards, as the index has them. labels: how often each label came, by its number."""

    entries: list[dict[str, Any]]
    skipped: list[Skipped]
    labels: list[int]


@dataclass(frozen=True)
class Records:
    """The records below the folder of the shards."""

    out: Path

    @property
    def folder(self) -> Path:
        return self.out / FOLDER

    def agree(self, plan: dict[str, Any], write: bool) -> None:
        """Keep a plan, or hold it against the one that is there. Raises GuidanceError where they differ."""
        file = self.folder / "plan.json"
        here = json.loads(json.dumps(plan))
        there = read_json(file)
        if there is None:
            if (self.out / INDEX).exists():
                raise GuidanceError(f"'{self.out}' already holds latent shards: choose another folder, or delete them.")
            if write:
                write_whole(file, json.dumps(here, indent=1).encode())
            return
        differ = [key for key in {**here, **there} if here.get(key) != there.get(key)]
        if differ:
            what = "; ".join(f"{key} was {_short(there.get(key))} and is {_short(here.get(key))}" for key in differ)
            raise GuidanceError(
                f"'{self.out}' holds another encoding: {what}. Make them the same to go on with it, or choose another "
                f"folder."
            )

    def launch(self) -> str:
        """Take the folder over: a number of this launch, which is now the newest."""
        number = secrets.token_hex(8)
        write_whole(self.folder / "launch", number.encode())
        return number

    def check(self, launch: str) -> None:
        """Raise GuidanceError where a newer launch has taken the folder over."""
        if self.newest() != launch:
            raise GuidanceError(
                f"Another launch of the same command is at work on '{self.out}': this one stops, and what it wrote is "
                f"kept for the other."
            )

    def newest(self) -> str:
        return (self.folder / "launch").read_text(encoding="utf-8")

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


def read_json(file: Path) -> dict[str, Any] | None:
    """A record; None where it is not there or not whole."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _short(value: Any) -> str:
    return shortened(json.dumps(value, ensure_ascii=False), 60)
