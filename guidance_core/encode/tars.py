"""Tar shards in WebDataset's layout, read in place: neighbouring files of one name and several endings are a sample.

cat/0001.jpg  cat/0001.cls     the image, and its class; or .txt, tags by comma; or .json, with "label" or "labels"
cat/0002.jpg                   without any the folder in the tar is the class
"""

import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO

from ..data.image_file import EXTENSIONS, MAX_BYTES, ImageFile
from ..data.labelling import Tally
from ..data.layouts.base import Skipped
from ..errors import GuidanceError, printable, shortened
from ..frozen import frozen
from .samples import UNIT, Sample

MAX_LABEL = 2**20  # bytes of a file that says a label
LABELS = (".cls", ".txt", ".json")


@frozen
class TarContents:
    """What a scan of a tar found. starts: where each unit of `unit` samples begins, in bytes."""

    size: int
    unit: int
    starts: list[int]
    count: int
    labels: dict[str, int]
    several: bool

    @property
    def tally(self) -> Tally:
        return Tally(self.count, Counter(self.labels), self.several)


def scan_tar(file: Path, unit: int = UNIT) -> TarContents:
    """Count a tar's samples and labels; of images only the headers are read.

    Raises GuidanceError for what is no tar, is compressed, or ends too early.
    """
    starts: list[int] = []
    labels: Counter[str] = Counter()
    count, several = 0, False
    with open_tar(file) as stream:
        for number, (offset, sample) in enumerate(_samples(stream, file, 0)):
            if number % unit == 0:
                starts.append(offset)
            if isinstance(sample, Sample):
                count += 1
                labels.update(sample.labels)
                several |= len(sample.labels) > 1
    return TarContents(os.stat(file).st_size, unit, starts, count, dict(labels), several)


@frozen
class TarSamples:
    """The samples of several tars, of which the contents are known."""

    files: tuple[Path, ...]
    contents: tuple[TarContents, ...]
    skipped: tuple[Skipped, ...] = ()

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """(tar, offset) of every unit."""
        return [(i, start) for i, contents in enumerate(self.contents) for start in contents.starts]

    @property
    def units(self) -> int:
        return len(self.places)

    @cached_property
    def tally(self) -> Tally:
        return sum((contents.tally for contents in self.contents), Tally())

    @property
    def identity(self) -> list:
        return [[file.name, asdict(contents)] for file, contents in zip(self.files, self.contents, strict=True)]

    def read(self, unit: int) -> Iterator[Sample | Skipped]:
        tar, start = self.places[unit]
        with open_tar(self.files[tar]) as stream:
            for number, (_, sample) in enumerate(_samples(stream, self.files[tar], start)):
                if number == self.contents[tar].unit:
                    break
                yield sample


def open_tar(file: Path) -> BinaryIO:
    """Raises GuidanceError where it cannot be read."""
    try:
        return open(file, "rb")
    except OSError as error:
        raise GuidanceError(f"The tar '{printable(file.name)}' cannot be read ({error.strerror}).") from error


def _samples(stream: BinaryIO, file: Path, start: int) -> Iterator[tuple[int, Sample | Skipped]]:
    """(where it begins, sample) from a byte on."""
    key, offset = "", 0
    members: dict[str, tarfile.TarInfo] = {}
    for member in _members(stream, file, start):
        folder, slash, base = member.name.rpartition("/")
        stem, dot, ending = base.partition(".")
        if not stem or not dot or base.startswith("."):
            continue
        if f"{folder}{slash}{stem}" != key:
            if members:
                yield offset, _sample(stream, file, key, members)
            key, offset, members = f"{folder}{slash}{stem}", member.offset, {}
        members[f".{ending.lower()}"] = member
    if members:
        yield offset, _sample(stream, file, key, members)


def _members(stream: BinaryIO, file: Path, start: int) -> Iterator[tarfile.TarInfo]:
    """The plain files in a tar, one in memory at a time."""
    try:
        stream.seek(start)
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would remember them all
                if member.isfile():
                    yield member
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # which tarfile lets pass
                raise tarfile.ReadError("it has no end")
    except (tarfile.TarError, OSError, ValueError) as error:
        raise GuidanceError(
            f"'{printable(file.name)}' is not a whole, uncompressed tar ({shortened(str(error))}): unpack compression "
            f"with gunzip, or fetch it again."
        ) from error


def _sample(stream: BinaryIO, file: Path, key: str, members: dict[str, tarfile.TarInfo]) -> Sample | Skipped:
    name = printable(f"{file.name}/{key}")
    image = next((members[ending] for ending in members if ending in EXTENSIONS), None)
    if image is None:
        return Skipped(name, "has no image")
    if image.size > MAX_BYTES:
        return Skipped(name, f"has {image.size / 2**20:.0f} MiB, and at most {MAX_BYTES // 2**20} are read")
    try:
        labels = _labels(stream, key, members)
    except (ValueError, RecursionError) as error:
        return Skipped(name, f"has labels that cannot be read ({shortened(str(error))})")
    if not labels:
        return Skipped(name, f"has no label ({', '.join(LABELS)}, or a folder)")
    return Sample(name, partial(_image, stream, name, image.offset_data, image.size), labels)


def _labels(stream: BinaryIO, key: str, members: dict[str, tarfile.TarInfo]) -> tuple[str, ...]:
    """Raises ValueError for what is no label."""
    ending = next((ending for ending in LABELS if ending in members), "")
    if not ending:
        return tuple(filter(None, [key.rpartition("/")[0].partition("/")[0]]))
    member = members[ending]
    if member.size > MAX_LABEL:
        raise ValueError(f"'{ending}' has more than {MAX_LABEL // 2**20} MiB")
    text = _bytes(stream, member.offset_data, member.size).decode("utf-8-sig")
    if ending == ".json":
        said = json.loads(text)
        given = said.get("labels", said.get("label", [])) if isinstance(said, dict) else said
        words = given if isinstance(given, list) else [given]
        if not all(isinstance(word, str | int) for word in words):
            raise ValueError("'.json' must have a 'label' or a list of 'labels'")
    else:
        words = [text] if ending == ".cls" else text.replace("\n", ",").split(",")
    return tuple(dict.fromkeys(word for word in (" ".join(str(word).split()) for word in words) if word))


def _image(stream: BinaryIO, name: str, offset: int, size: int) -> ImageFile:
    return ImageFile(name, _bytes(stream, offset, size))


def _bytes(stream: BinaryIO, offset: int, size: int) -> bytes:
    """Leaves the stream where tarfile expects it, which seeks by itself. Raises OSError for a tar that was cut."""
    stream.seek(offset)
    content = stream.read(size)
    if len(content) < size:
        raise OSError(f"'{printable(Path(stream.name).name)}' ends too early: fetch the tar again.")
    return content
