"""Train Noisy Classifier: from labelled latents to a classifier, with progress, interrupt and resume."""

import comfy.model_management
from comfy_api.latest import io, ui

from ..guidance_core import assess, data, train
from ..guidance_core.classifier.noisy import NoisyClassifier
from ..guidance_core.data.augment import AUGMENTS
from ..guidance_core.drawing.plot import picture
from ..guidance_core.errors import GuidanceError
from ..guidance_core.params import params_of
from ..guidance_core.train.settings import OTHER, PRIOR, TrainSettings
from .host.classifier_files import host_classifier, relative
from .host.labelled import LabelledLatents
from .host.model_facts import in_sampler_scale, latent_space, latent_statistics, path_of
from .host.types import LABELLED_LATENTS, NOISY_CLASSIFIER
from .host.unfinished import UnfinishedTraining
from .ui.messages import folded, say, speaking_as
from .ui.progress import with_bar
from .ui.trace_plot import as_image, on_node
from .ui.training import TrainingProgress
from .ui.widgets import widgets

TITLE = "Train Noisy Classifier"
HOLD_OUT = 0.15  # in the graph every classifier is judged, so that Load and Guidance can say what it is good for
DRAWS = 400  # of noise for the judgement, at each noise level
JUDGED_AT_ONCE = 32
MAKE_ROOM = 1e30  # all the memory that ComfyUI can give back
NOT_HERE = ("head", "accumulate")  # the head follows from the labels
SETTINGS = [name for name in params_of(TrainSettings) if name not in NOT_HERE]


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
                    default=PRIOR,
                    min=0.0,
                    max=0.49,
                    step=0.01,
                    round=0.001,
                    tooltip=f"For a label named '{OTHER}', of pictures sampled from this model: the share of them that "
                    "shows each of the other labels anyway. Smaller steers harder; 0 leaves it out.",
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
        cls,
        model,
        examples: LabelledLatents,
        name: str,
        share,
        log_snr_low: float,
        log_snr_high: float,
        **values,
    ) -> io.NodeOutput:
        progress = TrainingProgress(cls.hidden.unique_id)
        with speaking_as(TITLE):
            options = _options(model, examples, (log_snr_low, log_snr_high), values)
            prior = _prior(share, examples, values["balance"])
            source = data.sources.TensorSource(in_sampler_scale(model, examples.latents), examples.targets)
            kept = UnfinishedTraining.of(name, [source.fingerprint(), examples.labels, options])
            device = comfy.model_management.get_torch_device()
            comfy.model_management.free_memory(MAKE_ROOM, device)
            steps = train.loop.train_classifier(
                source, label_names=examples.labels, checkpoint=kept.state, device=device, **options
            )
            try:
                last = progress.run(steps)
            except comfy.model_management.InterruptProcessingException:
                if progress.last is not None:
                    say(cls.hidden.unique_id, _keep(model, steps, progress.last, kept))
                raise
            assessed = _assessed(source, last) if len(last.held_out) else None
            classifier = last.classifier if assessed is None else assessed.classifier
            classifier = _described(
                model, classifier if prior is None else train.negatives.with_prior(classifier, prior)
            )
            kept.discard()
        lines, details = _report(model, last, prior, classifier)
        say(cls.hidden.unique_id, folded([*lines, *progress.notes], details))
        report = "\n".join([*lines, *details])
        panels = progress.panels()
        loss = as_image(picture(panels))
        page = loss
        if assessed is not None:
            page = as_image(assess.page.card_picture(assessed.classifier.card, assessed.evaluation.reliability))
        shown = ui.PreviewImage(as_image(on_node(panels)), cls=cls)
        return io.NodeOutput(host_classifier(classifier), loss, page, {"loss": progress.losses}, report, ui=shown)


def _options(model, examples: LabelledLatents, log_snr_range: tuple[float, float], values: dict) -> dict:
    """The options of train_classifier, as plain values."""
    if path_of(model) is None:
        raise GuidanceError("this model mixes data and noise in a way of its own, which classifiers do not know.")
    options = {key: values[key] for key in SETTINGS} | {"head": examples.head.name}
    options |= {"log_snr_range": log_snr_range, "latent_space": latent_space(model)}
    return options | {"augment": [each for each in AUGMENTS if values[each]]}


def _prior(share: float, examples: LabelledLatents, balanced: bool) -> float | None:
    """The prior of each label but OTHER; None where the examples or the user leave it out."""
    if share <= 0 or OTHER not in examples.labels or not examples.head.has_prior or not balanced:
        return None
    if share * (len(examples.labels) - 1) >= 1:
        raise GuidanceError(f"share must be below 1 / {len(examples.labels) - 1} with these labels, got {share}.")
    return share


def _keep(model, steps: "train.loop.Training", last: "train.loop.TrainStep", kept: UnfinishedTraining) -> str:
    """Keep what a cancelled training has reached, the classifier and the state each by itself; what was, in words."""
    try:
        said = f"Stopped at step {last.step}; kept as {relative(kept.keep(_described(model, last.best())))}."
    except GuidanceError as error:
        said = f"Stopped at step {last.step}. The classifier so far is lost: {error}"
    try:
        steps.close()  # writes the state to go on from
    except GuidanceError as error:
        return f"{said}\nRunning again begins anew: {error}"
    return f"{said} Run to go on."


def _assessed(source: "data.sources.TensorSource", last: "train.loop.TrainStep") -> "assess.assessment.Assessment":
    held = last.held_out[:DRAWS]
    device = next(last.classifier.network.parameters()).device
    latents, repeats = source.load(held).to(device), max(1, DRAWS // len(held))
    return with_bar(
        assess.assessment.assess(last.classifier, latents, source.labels[held], repeats=repeats, batch=JUDGED_AT_ONCE)
    )


def _described(model, classifier: NoisyClassifier) -> NoisyClassifier:
    """With what this MODEL says of the latents it was trained on; on the CPU, where ComfyUI takes it from."""
    classifier.network.to("cpu").eval().requires_grad_(False)
    return classifier.recording(**latent_statistics(model))


def _report(
    model, last: "train.loop.TrainStep", prior: float | None, classifier: NoisyClassifier
) -> tuple[list[str], list[str]]:
    """The result in lines, the verdict first, and the reasons for it."""
    suggestion = classifier.record.suggestion
    lines = [f"{last.step} steps, loss {last.loss:.3g}."]
    if suggestion is not None:
        lines.insert(0, suggestion.verdict(path_of(model)))
    if prior is not None:
        lines.append(f"Each label but '{OTHER}' is taken to be {prior:g} of what the model makes (see share).")
    return lines, [] if suggestion is None else [suggestion.reason]


def _first_sentence(text: str) -> str:
    return text.strip().split("\n")[0]
