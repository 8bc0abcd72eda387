"""Save Noisy Classifier: to a file in models/noisy_classifiers, for others to load and trust."""

import io as files
from contextlib import nullcontext

import numpy as np
from comfy_api.latest import io
from PIL import Image

from ..guidance_core.classifier.card_values import MAX_PREVIEW
from .host.classifier_files import file_named, new_file, numbered, relative
from .host.classifiers import HostClassifier
from .host.types import NOISY_CLASSIFIER
from .ui.checks import allowed
from .ui.messages import say, speaking_as

TITLE = "Save Noisy Classifier"
PREVIEW_SIDES = (384, 256, 192, 128, 64)  # the largest whose PNG is small enough


class SaveNoisyClassifier(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitSaveNoisyClassifier",
            display_name=TITLE,
            category="model/training",
            description=(
                "Writes a noisy classifier to models/noisy_classifiers: a safetensors file with its labels and "
                "measurements, safe to share. Press R, and Load Noisy Classifier lists it."
            ),
            search_aliases=["save classifier", "export classifier", "share classifier", "safetensors"],
            is_output_node=True,
            inputs=[
                NOISY_CLASSIFIER.Input("classifier", tooltip="From Train or Evaluate Noisy Classifier."),
                io.String.Input("name", default="my classifier", tooltip="The name of the file; / makes a folder."),
                io.Boolean.Input(
                    "replace",
                    default=False,
                    tooltip="Write over a file of this name; off: a number is added to the name.",
                ),
                io.String.Input(
                    "licence", default="", tooltip="How others may use it, such as CC BY 4.0.", advanced=True
                ),
                io.String.Input("author", default="", tooltip="Who made it.", advanced=True),
                io.Image.Input("preview", optional=True, tooltip="A picture to show what it is for."),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, name=None) -> bool | str:
        return name is None or allowed(TITLE, lambda: file_named(name))

    @classmethod
    def execute(cls, classifier: HostClassifier, name, replace, licence, author, preview=None) -> io.NodeOutput:
        with speaking_as(TITLE):
            file = file_named(name)
            said = {key: text.strip() for key, text in (("licence", licence), ("author", author)) if text.strip()}
            if preview is not None:
                said["preview"] = _png(preview[0])
            with nullcontext(file) if replace else new_file(numbered(file)) as file:
                classifier.classifier.recording(**said).save(file)
        say(cls.hidden.unique_id, f"Saved as {relative(file)} ({file.stat().st_size / 1e6:.1f} MB).")
        return io.NodeOutput()


def _png(image) -> bytes:
    """A picture [H, W, 3] as a PNG small enough for a card."""
    picture = Image.fromarray((image.cpu().clamp(0, 1) * 255).round().numpy().astype(np.uint8))
    for side in PREVIEW_SIDES:
        small = picture.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        written = files.BytesIO()
        small.quantize(128).save(written, "PNG", optimize=True)
        if written.tell() <= MAX_PREVIEW:
            break
    return written.getvalue()
