"""Load Digits Demo: the bundled model of handwritten digits, with which examples run without a download."""

from comfy_api.latest import io

from ..guidance_core import demo
from . import host
from .host.classifier_files import host_classifier
from .host.types import CLEAN_CLASSIFIER, NOISY_CLASSIFIER
from .host.usual_size import usual_latent, with_usual_size


class LoadDigitsDemo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitLoadDigitsDemo",
            display_name="Load Digits Demo",
            category="model/loaders",
            description=(
                "A small class-conditional model of handwritten digits, its VAE, a noisy classifier (labels zero to "
                "nine) and one of clean pictures. Comes with the pack; use 128 x 128 pictures."
            ),
            search_aliases=["digits", "demo", "example model", "handwritten", "mnist"],
            inputs=[],
            outputs=[
                io.Model.Output(tooltip="A class-conditional model of digits; Class Condition says which."),
                io.Vae.Output(tooltip="Turns its latents into pictures, and pictures into latents."),
                NOISY_CLASSIFIER.Output("classifier", tooltip="A noisy classifier with the labels zero to nine."),
                io.Latent.Output("latent", tooltip="An empty latent of one picture, of the size that the model makes."),
                CLEAN_CLASSIFIER.Output(
                    "clean_classifier",
                    tooltip="A classifier of clean digits that never saw noise: it judges the prediction at each step.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        model, vae, classifier = host.digits.load_digits()
        model = with_usual_size(model, demo.SHAPE[-1], vae.downscale_ratio, cls.hidden.unique_id)
        return io.NodeOutput(model, vae, host_classifier(classifier), usual_latent(model), host.digits.digits_guide())
