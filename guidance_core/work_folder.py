"""A folder that a piece of work fills, part by part and in any number of launches: what it is, and who is at it."""

import json
import secrets
from pathlib import Path
from typing import Any

from .errors import GuidanceError, shortened
from .frozen import frozen
from .writing import write_whole


@frozen
class WorkFolder:
    """`plan.json` says what makes the parts what they are; `launch` has a number that the newest launch wrote.

    out: the folder, as the user knows it. name: of the folder in it that holds both.
    """

    out: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.out / self.name

    @property
    def begun(self) -> bool:
        return (self.folder / "plan.json").is_file()

    def agree(self, plan: dict[str, Any], write: bool) -> None:
        """Keep a plan, or hold it against the one that is there. Raises GuidanceError where they differ."""
        file = self.folder / "plan.json"
        here, there = json.loads(json.dumps(plan)), read_json(file)
        if there is None:
            if write:
                write_whole(file, json.dumps(here, indent=1).encode())
            return
        differ = [key for key in {**here, **there} if here.get(key) != there.get(key)]
        if differ:
            what = "; ".join(f"{key} was {_short(there.get(key))} and is {_short(here.get(key))}" for key in differ)
            raise GuidanceError(
                f"'{self.out}' holds other work: {what}. Make them the same to go on with it, or choose another folder."
            )

    def launch(self) -> str:
        """Take the folder over: a number of this launch, which is now the newest."""
        number = secrets.token_hex(8)
        write_whole(self.folder / "launch", number.encode())
        return number

    def check(self, launch: str) -> None:
        """Raise GuidanceError where a newer launch has taken the folder over."""
        if (self.folder / "launch").read_text(encoding="utf-8") != launch:
            raise GuidanceError(
                f"Another launch of the same command is at work on '{self.out}': this one stops, and what it wrote is "
                f"kept for the other."
            )


def read_json(file: Path) -> dict[str, Any] | None:
    """A table of JSON; None where it is not there or not whole."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _short(value: Any) -> str:
    return shortened(json.dumps(value, ensure_ascii=False), 60)
