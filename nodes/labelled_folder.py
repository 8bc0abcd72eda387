"""Labelled Folder: pictures on disk as labelled latents, encoded once and kept."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor

from ..guidance_core import data
from ..guidance_core.demo.emoji.pictures import FOLDER as EMOJI
from ..guidance_core.demo.pictures import FOLDER as DIGITS
from ..guidance_core.errors import GuidanceError, shortened
from .host.input_folders import input_folders
from .host.labelled import LabelledLatents, joined, of_one_label
from .host.types import LABELLED_LATENTS
from .ui.messages import say, speaking_as
from .ui.progress import with_bar

TITLE = "Labelled Folder"
DEMO = "digits demo"
BUNDLED = {DEMO: DIGITS, "emoji demo": EMOJI}
NAMED = 5  # skipped files that are listed on the node
BATCH = 4  # pictures encoded at once
RECENT = 1.0  # seconds for which a list of folders will do: ComfyUI asks for it many times for one prompt


def folders() -> list[str]:
    """The folders to choose from: those in ComfyUI's input folder, and the demos' own."""
    return [*input_folders(RECENT), *_own()]


def place_of(folder: object, recent: float = RECENT) -> Path | None:
    """Where a folder to choose is; None where there is none of this name, and for what is no name."""
    if not isinstance(folder, str):
        return None
    own = _own()
    if folder not in own and folder in input_folders(recent):
        return Path(folder_paths.get_input_directory()) / folder
    return own.get(folder)


def _own() -> dict[str, Path]:
    found = {}
    for demo, place in BUNDLED.items():
        classes = {f"{demo}/{folder.name}": folder for folder in sorted(place.iterdir()) if folder.is_dir()}
        found |= {demo: place} | classes
    return found


class LabelledFolder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitLabelledFolder",
            display_name=TITLE,
            category="model/training",
            description=(
                "Examples for Train Noisy Classifier from pictures in ComfyUI's input folder. With a label, every "
                "picture in the folder has it. Without one each sub-folder is a class; or captions beside the pictures "
                "(cat.txt for cat.png) or a CSV table say what they show; where nothing does, the folder's name is the "
                "label. Encoded pictures are kept on disk."
            ),
            search_aliases=[
                "labeled folder",
                "label",
                "training set",
                "image folder",
                "dataset",
                "captions",
                "csv",
                "load images",
                "load images from folder",
                "classifier data",
            ],
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=folders(),
                    default=f"{DEMO}/three",
                    tooltip="A folder in ComfyUI's input folder, or one that comes with the demos.",
                ),
                io.Vae.Input("vae", tooltip="The VAE of the model that is to be guided."),
                io.String.Input(
                    "label",
                    default="",
                    placeholder="my style",
                    tooltip="One label for all pictures; empty: taken from sub-folders, captions or a table, else the "
                    "folder's name.",
                ),
                *(
                    io.Int.Input(
                        side,
                        default=512,
                        min=16,
                        max=8192,
                        step=8,
                        tooltip=f"The {side} in pixels to which pictures are scaled and cropped: that of your samples.",
                    )
                    for side in ("width", "height")
                ),
                LABELLED_LATENTS.Input(
                    "examples", optional=True, tooltip="Examples of another node, to which these are added."
                ),
            ],
            outputs=[
                LABELLED_LATENTS.Output("examples", tooltip="The labelled latents of this node and of those before it.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, folder: str | None = None) -> bool | str:
        if folder is not None and place_of(folder, recent=0.0) is None:  # None: missing or linked
            name = shortened(str(folder))
            return f"{TITLE}: there is no folder '{name}' in ComfyUI's input folder; put it there and press R."
        return True

    @classmethod
    def fingerprint_inputs(cls, folder, vae=None, label="", width=0, height=0, examples=None) -> str:
        place = place_of(folder)
        files = sorted(place.rglob("*")) if place is not None else []
        state = [(str(file), *_changed(file)) for file in files]
        return hashlib.sha256(repr((state, label, width, height)).encode()).hexdigest()

    @classmethod
    def execute(cls, folder, vae, label, width, height, examples: LabelledLatents | None = None) -> io.NodeOutput:
        label, notes = label.strip(), []
        with speaking_as(TITLE):
            place = place_of(folder)
            if place is None:
                raise GuidanceError(f"there is no folder '{shortened(str(folder))}' in ComfyUI's input folder.")
            if not label and data.folders.is_unlabelled(place):
                label = place.name
            if label:
                files, skipped = with_bar(data.folders.scan_images(place))
                found = of_one_label(_encoded(files, vae, (height, width), notes.append), label)
            else:
                pictures = with_bar(data.folders.scan_folder(place, minimum=1))
                skipped = pictures.skipped
                latents = _encoded(pictures.files, vae, (height, width), notes.append)
                found = LabelledLatents(latents, pictures.labels, pictures.targets, pictures.head)
            found = replace(found, zoom=height // found.latents.shape[-2])
            counts = [f"This folder: {found.counts()}"] if examples else []
            examples = joined(examples, found)
        say(cls.hidden.unique_id, "\n".join([examples.counts(), *counts, *notes, *_told(skipped)]))
        return io.NodeOutput(examples)


def _changed(file: Path) -> tuple[int, int]:
    """When a file was last changed, and its size; nothing of what is no plain file, or gone by now."""
    try:
        status = os.stat(file)
    except OSError:
        return 0, 0
    return (status.st_mtime_ns, status.st_size) if file.is_file() else (0, 0)


def _encoded(files: Sequence[Path], vae, size: tuple[int, int], unkept: Callable[[str], None]) -> Tensor:
    """The latents [N, C, ...] of pictures, from disk where they are known already; unkept: see latents_of."""
    cache = Path(folder_paths.get_user_directory()) / "guidance_kit" / "latents"
    work = data.latent_cache.encode_cached(
        files, lambda images: _latents(vae, images), _vae_key(vae), cache, sizes=[size], batch=BATCH, unkept=unkept
    )
    return torch.stack(with_bar(work))


def _latents(vae, images: Tensor) -> Tensor:
    # one by one: a video's VAE takes a batch of pictures for the frames of one film
    return torch.cat([vae.encode(image[None, ..., :3]).cpu().float() for image in images])


def _vae_key(vae) -> str:
    """A name for a VAE that changes with its weights: its type, and a hash of a sample of each of them."""
    whole = hashlib.sha256()
    for name, tensor in vae.first_stage_model.state_dict().items():
        flat = tensor.flatten()
        sample = flat[:: max(1, len(flat) // 64)][:64]
        whole.update(f"{name}{tuple(tensor.shape)}{sample.float().cpu().tolist()}".encode())
    return f"{type(vae.first_stage_model).__name__}-{whole.hexdigest()[:32]}"


def _told(skipped: "Sequence[data.layouts.base.Skipped]") -> list[str]:
    if not skipped:
        return []
    more = [f"and {len(skipped) - NAMED} more"] if len(skipped) > NAMED else []
    return [f"Skipped {len(skipped)}:", *(f"{each.name}: {each.reason}" for each in skipped[:NAMED]), *more]
