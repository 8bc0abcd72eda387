"""Load Digits Demo: the bundled model of handwritten digits, with which examples run without a download."""

from comfy_api.latest import io

from .host.classifier_files import host_classifier
from .host.digits import load_digits
from .host.types import NOISY_CLASSIFIER


class LoadDigitsDemo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GuidanceKitLoadDigitsDemo",
            display_name="Load Digits Demo",
            category="model/loaders",
            description=(
                "A small class-conditional model of handwritten digits, its VAE and a noisy classifier (labels zero to "
                "nine). Comes with the pack; use 128 x 128 pictures."
            ),
            search_aliases=["digits", "demo", "example model", "handwritten", "mnist"],
            inputs=[],
            outputs=[
                io.Model.Output(),
                io.Vae.Output(),
                NOISY_CLASSIFIER.Output("classifier", tooltip="A noisy classifier with the labels zero to nine."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        model, vae, classifier = load_digits()
        return io.NodeOutput(model, vae, host_classifier(classifier))
