"""Train Noisy Classifier: from labelled latents to a classifier, with progress, interrupt and resume."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
from comfy_api.latest import io, ui
from PIL import Image

from ..guidance_core.assess.assessment import Assessment, assess
from ..guidance_core.assess.page import card_picture
from ..guidance_core.classifier.noisy import NoisyClassifier
from ..guidance_core.data.augment import AUGMENTS
from ..guidance_core.data.sources import TensorSource
from ..guidance_core.drawing.plot import AMBER, BLUE, Line, Panel, picture
from ..guidance_core.errors import GuidanceError
from ..guidance_core.params import params_of
from ..guidance_core.train.loop import TrainSettings, TrainStep, train_classifier
from ..guidance_core.train.negatives import OTHER, SHARE, expect_share
from .host.classifier_files import file_named, host_classifier, relative
from .host.labelled import LabelledLatents
from .host.model_facts import in_sampler_scale, latent_space, latent_statistics, path_of
from .host.types import LABELLED_LATENTS, NOISY_CLASSIFIER
from .ui.messages import say, speaking_as
from .ui.progress import with_bar
from .ui.trace_plot import as_image, ends
from .ui.widgets import widgets

TITLE = "Train Noisy Classifier"
HOLD_OUT = 0.15  # in the graph every classifier is judged, so that Load and Guidance can say what it is good for
PICTURES = 50  # of the progress, over a run
DRAWS = 400  # of noise for the judgement, at each noise level
JUDGED_AT_ONCE = 32
MAKE_ROOM = 1e30  # all the memory that ComfyUI can give back
KEPT_STATES = 4  # of unfinished trainings, the newest
SETTINGS = [name for name in params_of(TrainSettings) if name != "head"]  # the head follows from the labels


class TrainNoisyClassifier(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        settings = widgets(TrainSettings, *SETTINGS)
        for each in settings:
            if each.id == "hold_out":
                each.default = HOLD_OUT
            elif each.id == "seed":
                each.control_after_generate = io.ControlAfterGenerate.fixed  # another seed would not go on
        return io.Schema(
            node_id="GuidanceKitTrainNoisyClassifier",
            display_name=TITLE,
            category="model/training",
            description=(
                "Learns to tell labels apart in noisy latents of this model. A part of the examples is held out and "
                "judges the result. Cancel keeps the best so far as a file beside the finished ones, and running the "
                "same again goes on where it stopped."
            ),
            search_aliases=[
                "train classifier",
                "classifier training",
                "learn labels",
                "training",
                "classifier guidance",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model to be guided: its latents are what the classifier sees."),
                LABELLED_LATENTS.Input("examples", tooltip="What to learn from, with two labels at least."),
                io.String.Input(
                    "name", default="my classifier", tooltip="The name under which a cancelled training is kept."
                ),
                *settings,
                *(
                    io.Boolean.Input(name, default=False, tooltip=_first_sentence(vary.__doc__))
                    for name, vary in AUGMENTS.items()
                ),
                io.Float.Input(
                    "share",
                    default=SHARE,
                    min=0.0,
                    max=0.49,
                    step=0.01,
                    round=0.001,
                    tooltip=f"With a label named '{OTHER}' of pictures that the model has sampled: about how many of "
                    "its pictures show each other label by themselves. Smaller steers harder; 0 leaves it out.",
                    advanced=True,
                ),
                io.Float.Input(
                    "log_snr_low",
                    default=-10.0,
                    min=-30.0,
                    max=30.0,
                    step=0.5,
                    tooltip="The noisiest level to learn, as log signal-to-noise ratio.",
                    advanced=True,
                ),
                io.Float.Input(
                    "log_snr_high",
                    default=10.0,
                    min=-30.0,
                    max=30.0,
                    step=0.5,
                    tooltip="The cleanest level to learn, as log signal-to-noise ratio.",
                    advanced=True,
                ),
            ],
            outputs=[
                NOISY_CLASSIFIER.Output(
                    "classifier", tooltip="The best classifier of the run: save it, or guide with it."
                ),
                io.Image.Output("loss", tooltip="Loss and accuracy over the training."),
                io.Image.Output("judgement", tooltip="How good it is on the pictures that were held out."),
                io.LossMap.Output("loss_map", tooltip="The losses, for Plot Loss Graph."),
                io.String.Output("report", tooltip="The result in words, with the suggested scale."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model, examples: LabelledLatents, name: str, share, log_snr_low: float, log_snr_high: float, **values
    ) -> io.NodeOutput:
        node_id = cls.hidden.unique_id
        with speaking_as(TITLE):
            if path_of(model) is None:
                raise GuidanceError(
                    "this model mixes data and noise in a way of its own, which classifiers do not know."
                )
            unfinished = file_named(f"{name.strip()} (unfinished)")
            shared = share > 0 and OTHER in examples.labels and examples.head.has_prior and values["balance"]
            if shared and share * (len(examples.labels) - 1) >= 1:
                raise GuidanceError(
                    f"share must be below 1 / {len(examples.labels) - 1} with these labels, got {share}."
                )
            device = comfy.model_management.get_torch_device()
            comfy.model_management.free_memory(MAKE_ROOM, device)
            source = TensorSource(in_sampler_scale(model, examples.latents), examples.targets)
            settings = {key: values[key] for key in SETTINGS} | {"head": examples.head.name}
            settings |= {"log_snr_range": (log_snr_low, log_snr_high), "latent_space": latent_space(model)}
            settings |= {"augment": [each for each in AUGMENTS if values[each]]}
            state = _state_file(name, source, examples.labels, settings)
            goes_on = state.exists()
            steps = train_classifier(
                source,
                label_names=examples.labels,
                checkpoint=state,
                device=device,
                **settings,
            )
            progress = _Progress()
            try:
                last = progress.through(steps)
            except comfy.model_management.InterruptProcessingException:
                steps.close()  # writes the state to go on from
                if progress.last is not None:
                    classifier = _described(model, progress.last.best())
                    classifier.save(unfinished)
                    say(node_id, f"Stopped at step {progress.last.step}; kept as {relative(unfinished)}. Run to go on.")
                raise
            classifier, page = last.classifier, None
            if len(last.held_out):
                assessed = _judged(classifier, source, last)
                classifier = assessed.classifier
                page = as_image(card_picture(classifier.card, assessed.evaluation.reliability))
            if shared:
                classifier = expect_share(classifier, share)
            classifier = _described(model, classifier)
            state.unlink(missing_ok=True)
            if goes_on:
                unfinished.unlink(missing_ok=True)
        report = f"{last.step} steps, loss {last.loss:.3g}."
        if shared:
            report += f" Each label but '{OTHER}' is taken to be {share:g} of what the model makes (see share)."
        if classifier.record.suggestion is not None:
            report += f" {classifier.record.suggestion.reason}"
        say(node_id, report)
        loss = as_image(progress.picture())
        shown = ui.PreviewImage(loss, cls=cls)
        return io.NodeOutput(
            host_classifier(classifier),
            loss,
            loss if page is None else page,
            {"loss": progress.losses},
            report,
            ui=shown,
        )


class _Progress:
    """A run's losses and validations so far, on ComfyUI's progress bar with a picture."""

    def __init__(self):
        self.losses: list[float] = []
        self.validations: list[tuple[int, float, float]] = []  # step, loss, accuracy
        self.last: TrainStep | None = None

    def through(self, steps: Iterator[TrainStep]) -> TrainStep:
        """Run to the end. Raises ComfyUI's interrupt when the user cancels."""
        bar = None
        for step in steps:
            self.last = step
            self.losses.append(step.loss)
            if step.validation is not None:
                self.validations.append((step.step, step.validation.loss, step.validation.accuracy))
            bar = bar or comfy.utils.ProgressBar(step.steps)
            show = step.step % max(1, step.steps // PICTURES) == 0
            bar.update_absolute(step.step, step.steps, ("PNG", Image.fromarray(self.picture()), None) if show else None)
            comfy.model_management.throw_exception_if_processing_interrupted()
        return self.last

    def picture(self) -> np.ndarray:
        """Losses and accuracy so far."""
        count = len(self.losses)
        width = max(1, count // 100)
        smooth = [sum(part) / len(part) for part in (self.losses[i : i + width] for i in range(0, count, width))]
        steps = ends(f"step {self.last.step - count + 1}", f"step {self.last.step}")
        panels = [Panel("training loss", [Line(smooth, BLUE)], ticks=steps)]
        if self.validations:
            ticks = ends(*(f"step {self.validations[i][0]}" for i in (0, -1)))
            panels.append(Panel("validation loss", [Line([v[1] for v in self.validations], AMBER)], ticks=ticks))
            panels.append(Panel("validation accuracy", [Line([v[2] for v in self.validations], AMBER)], ticks=ticks))
        return picture(panels)


def _judged(classifier: NoisyClassifier, source: TensorSource, last: TrainStep) -> Assessment:
    held = last.held_out[:DRAWS]
    device = next(classifier.network.parameters()).device
    latents, repeats = source.load(held).to(device), max(1, DRAWS // len(held))
    return with_bar(assess(classifier, latents, source.labels[held], repeats=repeats, batch=JUDGED_AT_ONCE))


def _described(model, classifier: NoisyClassifier) -> NoisyClassifier:
    """With what this MODEL says of the latents it was trained on; on the CPU, where ComfyUI takes it from."""
    classifier.network.to("cpu").eval().requires_grad_(False)
    return classifier.recording(**latent_statistics(model))


def _state_file(name: str, source: TensorSource, labels: tuple[str, ...], settings: dict) -> Path:
    """Where an unfinished training of exactly this is kept: other data or settings have another file."""
    folder = Path(folder_paths.get_user_directory()) / "guidance_kit" / "trainings"
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)[:-KEPT_STATES]:
        old.unlink(missing_ok=True)
    about = json.dumps([name.strip(), source.fingerprint(), labels, settings], sort_keys=True)
    return folder / f"{hashlib.sha256(about.encode()).hexdigest()[:32]}.safetensors"


def _first_sentence(text: str) -> str:
    return text.strip().split("\n")[0]
