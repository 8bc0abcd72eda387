"""A card as the metadata of a safetensors file and back; both ways walk the fields that the card declares."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

from ..errors import GuidanceError
from .card import Card, Record
from .values import Declared, declarations

FORMAT = "guidance-kit.noisy-classifier"
VERSION = 2


def to_metadata(card: Card) -> dict[str, str]:
    """The card as the metadata of a safetensors file; of the record, what says nothing is left out."""
    metadata = {"format": FORMAT, "version": str(VERSION)}
    for owner in (card, card.record):
        for name, each, default in _fields(type(owner)):
            value = getattr(owner, name)
            if each.required or each.always or value != default:
                metadata[name] = each.kind.write(value)
    return metadata


def from_metadata(metadata: dict[str, str], name: str) -> Card:
    """The card in a file's metadata, of this version or the one before; keys it does not know are ignored.

    name: of the file. Raises GuidanceError for a newer version, and naming the key for what is missing or wrong.
    """
    version = metadata.get("version", "none")
    if version not in ("1", str(VERSION)):
        raise GuidanceError(
            f"'{name}' has format version {version[:20]}, this Guidance Kit reads versions 1 to {VERSION}: update it."
        )
    said = _read(Card, metadata, name)
    record = Record(**_read(Record, metadata, name))
    classes = said["parameters"].get("classes")
    for key, count in (
        ("classes", classes),
        ("rows of confusion", record.confusion and len(record.confusion)),
        ("probabilities of a prior", len(record.prior) or None),
    ):
        if count not in (None, len(said["labels"])):
            raise GuidanceError(f"'{name}' has a wrong description: {len(said['labels'])} labels for {count} {key}.")
    if record.prior and not said["head"].has_prior:
        raise GuidanceError(f"'{name}' has a wrong description: 'prior' means nothing to the head {said['head']}.")
    return Card(**said, record=record)


def check_card(card: Card, name: str) -> None:
    """Raise GuidanceError for a card that could not be read back from the file `name`."""
    from_metadata(to_metadata(card), name)


def _read(cls: type, metadata: dict[str, str], name: str) -> dict[str, Any]:
    said = {}
    for key, each, default in _fields(cls):
        try:
            if key in metadata:
                said[key] = each.kind.read(metadata[key])
            elif each.required:
                raise ValueError("is missing")
            else:
                said[key] = default if each.unsaid is None else each.unsaid
        except (ValueError, RecursionError) as error:
            why = "is nested too deeply" if isinstance(error, RecursionError) else error
            raise GuidanceError(f"'{name}' has a wrong description: '{key}' {why}.") from error
    return said


def _fields(cls: type) -> Iterator[tuple[str, Declared, Any]]:
    """Name, declaration and default of each declared field."""
    of = declarations(cls)
    for f in fields(cls):
        if f.name in of:
            yield f.name, of[f.name], f.default if f.default_factory is MISSING else f.default_factory()
