"""A CSV table says what is what: a `file` column, and a `label` column or one column for each score."""

import csv
import io
import math
from pathlib import Path, PureWindowsPath

from ...errors import GuidanceError, printable, shortened
from .base import Found, Picture, Skipped, name_in, text_of, visible


def table_of(folder: Path) -> Path | None:
    """The table that rules a folder, if any; a table itself."""
    if folder.is_file() and folder.suffix.lower() == ".csv":
        return folder
    if not folder.is_dir():
        raise GuidanceError(f"There is no folder '{printable(str(folder))}'.")
    tables = [entry for entry in visible(folder) if entry.suffix.lower() == ".csv" and entry.is_file()]
    if len(tables) > 1:
        names = shortened(", ".join(printable(table.name) for table in tables))
        raise GuidanceError(
            f"There are several CSV tables in '{printable(folder.name)}' ({names}): keep one, or give its own path."
        )
    return tables[0] if tables else None


def from_table(table: Path, root: Path) -> Found:
    """The pictures of a table that have a label or scores. Raises GuidanceError for what is no such table."""
    rows, header = _rows(table, root)
    labelled = next((header.index(name) for name in ("label", "labels") if name in header), None)
    scores = () if labelled is not None else tuple(name for name in header if name != "file")
    items, skipped = [], []
    seen: dict[Path, int] = {}
    for number, row in enumerate(rows[1:], 2):
        where = f"'{printable(table.name)}', row {number}"
        if not any(map(str.strip, row)):
            continue
        if len(row) != len(header):
            columns = shortened(", ".join(header))
            raise GuidanceError(f"{where}: {len(row)} values for the {len(header)} columns {columns}.")
        file = _inside(row[header.index("file")].strip(), root, where)
        if file in seen:
            raise GuidanceError(f"{where}: '{name_in(file, root)}' is already in row {seen[file]}.")
        seen[file] = number
        if labelled is None:
            values = [value for name, value in zip(header, row, strict=True) if name != "file"]
            items.append(Picture(file, scores=tuple(_score(value, where) for value in values)))
            continue
        labels = dict.fromkeys(label.strip() for label in row[labelled].split("|") if label.strip())
        if labels:
            items.append(Picture(file, tuple(labels)))
        else:
            skipped.append(Skipped(name_in(file, root), "has no label in the table"))
    return Found(items, skipped, scores=scores)


def _rows(table: Path, root: Path) -> tuple[list[list[str]], list[str]]:
    """All rows, and the names of the columns in lower case."""
    name = printable(table.name)
    try:
        rows = list(csv.reader(io.StringIO(text_of(table, root), newline=""), strict=True))
    except csv.Error as error:
        raise GuidanceError(f"'{name}' is not a CSV table ({error}).") from error
    header = [column.strip().lower() for column in rows[0]] if rows else []
    if "file" not in header or len(header) < 2 or len(set(header)) < len(header) or not all(header):
        raise GuidanceError(
            f"'{name}' must begin with a header of different names such as 'file,label' or 'file,score'; it begins "
            f"with '{shortened(','.join(rows[0])) if rows else ''}'."
        )
    return rows, header


def _inside(entry: str, root: Path, where: str) -> Path:
    """A file of a table, its path written for any system, in the folder and nowhere else."""
    written = PureWindowsPath(entry)  # takes / and \ for a separator
    if not written.parts or written.anchor or ".." in written.parts:
        raise GuidanceError(
            f"{where}: '{shortened(entry)}' must be a path inside the folder of the table, without '..'."
        )
    return root.joinpath(*written.parts)


def _score(value: str, where: str) -> float:
    try:
        score = float(value)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise GuidanceError(
            f"{where}: '{shortened(value)}' is not a number. (Labels belong in a column named 'label'.)"
        )
    return score
