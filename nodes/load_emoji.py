"""Load Emoji Demo: the bundled miniature of Stable Diffusion, with which examples run without a download."""

from comfy_api.latest import io

from ..guidance_core import demo
from . import host
from .host.types import CLEAN_CLASSIFIER, NOISY_CLASSIFIER
from .host.usual_size import usual_latent, with_usual_size


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
                io.Model.Output(tooltip="A class-conditional model of emoji; Class Condition says which."),
                io.Vae.Output(tooltip="Turns its latents into pictures, and pictures into latents."),
                NOISY_CLASSIFIER.Output(
                    "classifier",
                    tooltip="Knows the eleven classes, animal to vehicle. Without CFG it wants a scale of about 14.",
                ),
                NOISY_CLASSIFIER.Output(
                    "attributes", tooltip="Knows smiling, round, and four colours, several at once."
                ),
                CLEAN_CLASSIFIER.Output(
                    "guide", tooltip="Knows the eleven classes in clean pictures: it judges what the model predicts."
                ),
                io.Latent.Output("latent", tooltip="An empty latent of one picture, of the size that the model makes."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        model, vae, *classifiers = host.emoji.load_emoji()
        model = with_usual_size(model, demo.emoji.Emoji.shape[-1], vae.downscale_ratio, cls.hidden.unique_id)
        return io.NodeOutput(model, vae, *classifiers, usual_latent(model))
