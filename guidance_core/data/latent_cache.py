"""Latents of picture files, encoded once and kept on disk: what is there already is not encoded again.

A latent is found by the bytes of its picture, the sizes it is cropped to and the name of the encoder, so that pictures
may be renamed, moved and edited. Each latent is a file of its own, written whole as soon as it is made: a run that
broke off goes on where it was, and several processes may share a cache.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import GuidanceError, printable
from ..files import read_tensors, write_tensors
from ..frozen import frozen
from ..progress import Progress
from .image_file import ImageFile, Size

FORMAT = "guidance-kit.latent"


@frozen
class EncodeProgress(Progress):
    """`done` of `count` pictures have a latent, `reused` of them from the cache."""

    reused: int


def encode_cached(
    files: Sequence[Path],
    encode: Callable[[Tensor], Tensor],
    key: str,
    folder: str | os.PathLike,
    *,
    sizes: Sequence[Size] = ((512, 512),),
    batch: int = 4,
    unkept: Callable[[str], None] = warnings.warn,
) -> Generator[EncodeProgress, None, tuple[Tensor, ...]]:
    """As `latents_of`, yielding progress after each latent; returns them all [C, ...], in the order of the files."""
    latents: dict[int, Tensor] = {}
    reused = 0
    found = latents_of(files, encode, key, folder, sizes=sizes, batch=batch, unkept=unkept)
    for number, latent, cached in found:
        latents[number] = latent
        reused += cached
        yield EncodeProgress(len(latents), len(files), reused)
    return tuple(latents[i] for i in range(len(files)))


def latents_of(
    files: Sequence[Path],
    encode: Callable[[Tensor], Tensor],
    key: str,
    folder: str | os.PathLike,
    *,
    sizes: Sequence[Size] = ((512, 512),),
    batch: int = 4,
    unkept: Callable[[str], None] = warnings.warn,
) -> Iterator[tuple[int, Tensor, bool]]:
    """(index of the file, its latent [C, ...] on the CPU, whether it was in the cache); not in the order of the files.

    encode: pictures [B, H, W, 3] in [0, 1] -> latents [B, C, ...], in the sampler's scale; called with `batch` pictures
    of one size. key: names the encoder and all its settings; another key, another cache. folder: of the cache, made if
    need be. sizes: see read_picture. A damaged cache file is encoded anew. unkept: told once, in a sentence, where the
    cache cannot be written; encoding goes on without it.
    Raises GuidanceError for a picture that cannot be read, or latents that are not finite or not one for each picture.
    """
    cache = _Cache(Path(folder), unkept)
    waiting: dict[tuple[int, ...], list[tuple[int, str, Tensor]]] = {}
    for number, file in enumerate(files):
        image = ImageFile.read(file)
        name = image.digest(FORMAT, key, tuple(map(tuple, sizes)))
        latent = cache.find(name)
        if latent is not None:
            yield number, latent, True
            continue
        pixels = image.pixels(*sizes).float() / 255
        alike = waiting.setdefault(tuple(pixels.shape), [])
        alike.append((number, name, pixels))
        if len(alike) >= batch:
            yield from _encoded(waiting.pop(tuple(pixels.shape)), encode, files, cache)
    for alike in waiting.values():
        yield from _encoded(alike, encode, files, cache)


def stacked(latents: Sequence[Tensor]) -> Tensor:
    """Latents [C, ...] of one shape as [N, C, ...]. Raises GuidanceError where the shapes differ."""
    shapes = sorted({tuple(latent.shape) for latent in latents})
    if len(shapes) != 1:
        raise GuidanceError(
            f"Latents must have one shape to be learned from together, got {', '.join(map(str, shapes)) or 'none'}: "
            f"encode the pictures at one size."
        )
    return torch.stack(list(latents))


@dataclass
class _Cache:
    """A folder of latents by name. One that cannot be written is said once, and written to no more."""

    folder: Path
    unkept: Callable[[str], None]
    broken: bool = False

    def find(self, name: str) -> Tensor | None:
        """A latent; None when it is not there, or not as it was written."""
        try:
            metadata, tensors = read_tensors(self._place(name), "latent", FORMAT)
        except GuidanceError:
            return None
        latent = tensors.get("latent")
        return latent if latent is not None and metadata.get("hash") == _hash(latent) else None

    def keep(self, name: str, latent: Tensor) -> None:
        if self.broken:
            return
        try:
            write_tensors(self._place(name), {"latent": latent}, {"format": FORMAT, "hash": _hash(latent)})
        except GuidanceError as error:
            self.broken = True
            self.unkept(f"Latents are encoded without being kept. {error}")

    def _place(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.safetensors"


def _encoded(
    alike: list[tuple[int, str, Tensor]], encode: Callable[[Tensor], Tensor], files: Sequence[Path], cache: _Cache
) -> Iterator[tuple[int, Tensor, bool]]:
    """Encode pictures of one size, and keep each latent before the first is handed on."""
    latents = encode(torch.stack([picture for _, _, picture in alike])).detach().cpu()
    if latents.ndim not in (4, 5) or len(latents) != len(alike):
        raise GuidanceError(
            f"The encoder must give latents [B, C, H, W] or [B, C, T, H, W], one for each of {len(alike)} pictures; it "
            f"gave {list(latents.shape)}."
        )
    for (number, name, _), latent in zip(alike, latents, strict=True):
        if not bool(latent.isfinite().all()):
            raise GuidanceError(
                f"The latent of '{printable(files[number].name)}' is not finite: encode in float32 or bfloat16, which "
                f"some VAEs need."
            )
        cache.keep(name, latent)
    for (number, _, _), latent in zip(alike, latents, strict=True):
        yield number, latent.clone(), False


def _hash(latent: Tensor) -> str:
    plain = latent.contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(repr((latent.dtype, tuple(latent.shape))).encode() + plain.tobytes()).hexdigest()
