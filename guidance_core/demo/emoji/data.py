"""The emoji pictures: fetched at a pinned version, chosen, laid on white and split by emoji.

`python -m guidance_core.demo.emoji.data` fetches the package with npm and writes what training reads.
"""

import argparse
import hashlib
import json
import subprocess
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from ...errors import GuidanceError
from ...files import read_tensors, write_tensors
from .classes import CLASS_OF, LABELS, LEFT_OUT, smiles

PACKAGE, VERSION = "emoji-datasource-google", "16.0.0"
SHA256 = "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"
WORK = Path.home() / ".cache" / "guidance-kit" / "emoji"
"""Where the package, the pictures and the state of unfinished trainings lie."""
FORMAT = "guidance-kit-emoji-pictures"

HALF_A, HALF_B, HELD_OUT = 0, 1, 2
_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
_VARIANT = {"FE0F", "200D", "2640", "2642", "27A1"} | _TONES
_ALIKE = 0.02  # root mean square difference of two pictures that are taken for one


@dataclass(frozen=True)
class Pictures:
    """images uint8 [N, 3, 64, 64] on white; labels and part long [N]; smiling bool [N].

    emoji, long [N]: one number for all variants of an emoji.
    """

    images: Tensor
    labels: Tensor
    emoji: Tensor
    part: Tensor
    smiling: Tensor
    names: tuple[str, ...]

    def of(self, *parts: int) -> "Pictures":
        """The pictures of some parts only."""
        at = torch.isin(self.part, torch.tensor(parts)).nonzero()[:, 0]
        names = tuple(self.names[i] for i in at.tolist())
        return Pictures(self.images[at], self.labels[at], self.emoji[at], self.part[at], self.smiling[at], names)

    @property
    def unit(self) -> Tensor:
        """The images as numbers in [0, 1], float [N, 3, 64, 64]."""
        return self.images.float() / 255

    @property
    def weights(self) -> Tensor:
        """How often each is drawn, adding up to 1.

        A class by the root of the number of its emoji, its emoji equally often, and so their variants.
        """
        weights = torch.zeros(len(self.labels), dtype=torch.float64)
        for label in self.labels.unique():
            _, which, variants = self.emoji[self.labels == label].unique(return_inverse=True, return_counts=True)
            weights[self.labels == label] = len(variants) ** -0.5 / variants[which].double()
        return weights / weights.sum()


def fetch(folder: Path = WORK) -> Path:
    """The package's archive in a folder, fetched with npm unless there. Raises GuidanceError for other content."""
    file = folder / f"{PACKAGE}-{VERSION}.tgz"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.is_file():
        try:
            subprocess.run(["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], cwd=folder, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise GuidanceError(f"npm could not fetch {PACKAGE} {VERSION} ({error}); lay it at '{file}'.") from error
    if hashlib.sha256(file.read_bytes()).hexdigest() != SHA256:
        raise GuidanceError(f"'{file}' is not {PACKAGE} {VERSION} as it was published: delete it and fetch it anew.")
    return file


def build(archive: Path) -> Pictures:
    """Choose, clean and split what an archive of the package holds."""
    with tarfile.open(archive) as tar:
        entries = json.loads(_member(tar, "emoji.json"))
        chosen = [e for e in entries if e["has_img_google"] and e["subcategory"] in CLASS_OF]
        chosen = sorted((e for e in chosen if e["short_name"] not in LEFT_OUT), key=lambda e: e["sort_order"])
        rows = [(e, v["image"]) for e in chosen for v in [e, *_toned(e)]]
        images = torch.stack([_on_white(_member(tar, f"img/google/64/{file}")) for _, file in rows])
    labels = torch.tensor([LABELS.index(CLASS_OF[e["subcategory"]]) for e, _ in rows])
    emoji = _groups([_base(e["unified"]) for e, _ in rows], images, labels)
    smiling = torch.tensor([smiles(e["short_names"]) for e, _ in rows])
    return Pictures(images, labels, emoji, _split(emoji, labels), smiling, tuple(e["short_name"] for e, _ in rows))


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    """What a file of the package holds."""
    stream = tar.extractfile(f"package/{name}")
    if stream is None:
        raise GuidanceError(f"The package's '{name}' is not a plain file.")
    return stream.read()


def _toned(entry: dict) -> list[dict]:
    """An emoji's variants in one skin tone."""
    variations = entry.get("skin_variations", {})
    return [v for tone, v in variations.items() if tone in _TONES and v["has_img_google"]]


def _on_white(png: bytes) -> Tensor:
    """A PNG file with transparency -> uint8 [3, 64, 64]."""
    import numpy as np
    from PIL import Image

    picture = Image.open(BytesIO(png)).convert("RGBA")
    ground = Image.new("RGBA", (64, 64), "white")
    ground.alpha_composite(picture, ((64 - picture.width) // 2, (64 - picture.height) // 2))
    return torch.from_numpy(np.array(ground.convert("RGB"))).permute(2, 0, 1).contiguous()


def _base(unified: str) -> str:
    """What an emoji is but for tone, direction and sex."""
    points = ["1F9D1" if point in ("1F468", "1F469") else point for point in unified.split("-")]
    return "-".join(point for point in points if point not in _VARIANT)


def _groups(bases: list[str], images: Tensor, labels: Tensor) -> Tensor:
    """One number for all variants of an emoji, and for emoji of one class that look alike, mirrored too: long [N]."""
    first: dict[str, int] = {}
    group = torch.tensor([first.setdefault(base, len(first)) for base in bases])
    flat = torch.nn.functional.avg_pool2d(images.float() / 255, 2)
    for label in labels.unique():
        at = (labels == label).nonzero()[:, 0]
        mine = flat[at].flatten(1)
        for other in (mine, flat[at].flip(-1).flatten(1)):
            distance = torch.cdist(mine, other) / mine.shape[1] ** 0.5
            for a, b in (distance < _ALIKE).nonzero().tolist():
                group[group == group[at[a]]] = group[at[b]].clone()
    return group.unique(return_inverse=True)[1]


def _split(emoji: Tensor, labels: Tensor, held_out: float = 0.15, seed: int = 0) -> Tensor:
    """The part of each picture: in every class a share of the emoji is held out, the rest is two halves. long [N]."""
    generator = torch.Generator().manual_seed(seed)
    part = torch.empty_like(emoji)
    for label in labels.unique():
        mine = emoji[labels == label].unique()
        mine = mine[torch.randperm(len(mine), generator=generator)]
        kept = round(held_out * len(mine))
        for i, group in enumerate(mine):
            part[emoji == group] = HELD_OUT if i < kept else (HALF_A, HALF_B)[i % 2]
    return part


def load_pictures(folder: Path = WORK) -> Pictures:
    """What the command wrote. Raises GuidanceError where it has not run."""
    file = folder / "pictures.safetensors"
    if not file.is_file():
        raise GuidanceError("There are no emoji pictures yet: run 'python -m guidance_core.demo.emoji.data' first.")
    metadata, t = read_tensors(file, "emoji picture", FORMAT)
    names = tuple(json.loads(metadata["names"]))
    return Pictures(t["images"], t["labels"], t["emoji"], t["part"], t["smiling"], names)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m guidance_core.demo.emoji.data", description=__doc__)
    parser.add_argument("--package", type=Path, help=f"the archive {PACKAGE}-{VERSION}.tgz (fetched with npm)")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for what it writes ({WORK})")
    arguments = parser.parse_args()
    pictures = build(arguments.package or fetch(arguments.work))
    arguments.work.mkdir(parents=True, exist_ok=True)
    tensors = {name: getattr(pictures, name) for name in ("images", "labels", "emoji", "part", "smiling")}
    metadata = {"format": FORMAT, "names": json.dumps(pictures.names)}
    write_tensors(arguments.work / "pictures.safetensors", tensors, metadata)
    print(f"{'class':<10}{'emoji':>7}{'pictures':>10}{'half A':>8}{'half B':>8}{'held out':>10}")
    for label, name in enumerate(LABELS):
        mine = pictures.labels == label
        parts = [int((mine & (pictures.part == part)).sum()) for part in (HALF_A, HALF_B, HELD_OUT)]
        groups = len(pictures.emoji[mine].unique())
        print(f"{name:<10}{groups:>7}{int(mine.sum()):>10}{parts[0]:>8}{parts[1]:>8}{parts[2]:>10}")


if __name__ == "__main__":
    main()
