"""Each picture has its tags beside it, in `name.txt` for `name.png`, separated by commas."""

from pathlib import Path

from ...errors import printable
from .base import Found, Picture, Skipped, images_in, text_of, why_not


def from_captions(root: Path) -> Found:
    """The pictures that have a caption; upper and lower case are one tag, as first written."""
    items, skipped = [], []
    spelling: dict[str, str] = {}
    for file in images_in(root):
        caption, name = file.with_suffix(".txt"), printable(file.name)
        reason = why_not(caption, root)
        if reason:
            missing = f"has no caption '{printable(caption.name)}' beside it"
            skipped.append(Skipped(name, missing if reason == "does not exist" else f"its caption {reason}"))
            continue
        words = (" ".join(tag.split()) for tag in text_of(caption, root).replace("\n", ",").split(","))
        tags = dict.fromkeys(spelling.setdefault(tag.casefold(), tag) for tag in words if tag)
        if tags:
            items.append(Picture(file, tuple(tags)))
        else:
            skipped.append(Skipped(name, f"its caption '{printable(caption.name)}' is empty"))
    return Found(items, skipped)
