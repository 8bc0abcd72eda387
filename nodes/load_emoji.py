"""Load Emoji Demo: the bundled miniature of Stable Diffusion, with which examples run without a download."""

from comfy_api.latest import io

from .host.emoji import load_emoji
from .host.types import CLEAN_CLASSIFIER, NOISY_CLASSIFIER


class LoadEmojiDemo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitLoadEmojiDemo",
            display_name="Load Emoji Demo",
            category="model/loaders",
            description=(
                "A miniature of Stable Diffusion that makes colour emoji of eleven classes, its VAE and three "
                "classifiers. Comes with the pack; use 64 x 64 pictures."
            ),
            search_aliases=["emoji", "demo", "example model", "colour", "small model", "latent diffusion"],
            inputs=[],
            outputs=[
                io.Model.Output(),
                io.Vae.Output(),
                NOISY_CLASSIFIER.Output("classifier", tooltip="Knows the eleven classes, animal to vehicle."),
                NOISY_CLASSIFIER.Output(
                    "attributes", tooltip="Knows smiling, round, and four colours, several at once."
                ),
                CLEAN_CLASSIFIER.Output(
                    "guide", tooltip="Knows the eleven classes in clean pictures: it judges what the model predicts."
                ),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_emoji())
