"""Every sub-folder is a class, searched to its depth."""

from collections.abc import Sequence
from pathlib import Path

from ...classifier.names import composed
from ...errors import GuidanceError, printable
from .base import Found, Picture, Skipped, images_below, images_in, visible


def class_folders(root: Path) -> list[Path]:
    """The sub-folders of a folder. Raises GuidanceError for one whose name cannot be a label."""
    folders = [entry for entry in visible(root) if entry.is_dir()]
    for folder in folders:
        if printable(folder.name) != folder.name:
            raise GuidanceError(
                f"The folder '{printable(folder.name)}' cannot be a class: its name is not UTF-8. Rename it."
            )
    return folders


def from_classes(classes: Sequence[Path], root: Path) -> Found:
    """The pictures of each class; those that lie beside the classes are not used."""
    items = [Picture(file, (folder.name,)) for folder in classes for file in images_below(folder)]
    beside = [Skipped(printable(file.name), "lies beside the folders of the classes") for file in images_in(root)]
    return Found(items, beside, classes=tuple(composed(folder.name) for folder in classes))
