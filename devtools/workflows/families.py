"""Families of models: how each is loaded and asked, and the settings that suit it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from devtools.workflows.canvas import Canvas, Model, Output, titled

DIGITS = "zero | one | two | three | four | five | six | seven | eight | nine"
EMOJI = "face | heart | flag | clock | person | plant | vehicle | food"  # of the classes, those that are drawn best
PROMPT = "a harbour town on a summer morning, boats, people at a market"
FAULT = 24  # pixels for the mark that a file is missing
TRAINING = "train_on_two_folders_then_guide"


@dataclass(frozen=True)
class Loaded:
    """What a family's loaders give."""

    model: Output
    vae: Output
    clip: Output | None = None
    classifier: Output | None = None
    clean: Output | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Family(ABC):
    """Settings that suit a family of models; latents of `size` pixels, `count` of them in a row of a contact sheet."""

    name: str
    title: str
    size: int
    count: int
    cell: int  # pixels of one picture on a contact sheet
    steps: int
    sampler: str
    scheduler: str
    cfg: float  # beside a classifier; 1 is none
    scale: float  # of CFG when CFG is the subject
    firm: float  # a CFG scale as high as is usual
    high: float  # one that is too high
    interval: tuple[float, float]  # sigmas between which CFG matters
    push: float  # a classifier's scale
    scales: tuple[float, ...]  # and four of them, from off to strong
    target: str  # of a classifier: one for each picture of a row
    pair: tuple[str, str]  # two labels that one picture can show
    halves: tuple[str, str]  # two labels for the lower half of a picture
    trained: tuple[str, str]  # labels that the training graph learns
    folders: tuple[str, str]  # and where its pictures lie
    trained_scale: float = 4.0  # as Train Noisy Classifier suggests it after learning against the model's own samples
    own: int  # samples of the model itself that it learns from
    swept: int = 1  # pictures in each cell of a sweep
    swept_cfg: tuple[float, ...]  # its scales of CFG
    swept_thing: str = "a harbour town"
    training: dict  # settings of Train Noisy Classifier
    # words for notes:
    null_kind: str = "an empty prompt"
    null_is: str = "with which it was trained"
    zeros_are: str = "which it has not seen in training"
    one_thing: str = "a harbour town"
    another: str = "another prompt"
    stand_ins: str = ""

    @property
    def classifier_name(self) -> str:
        """Under which the training graph saves."""
        return f"{' or '.join(self.trained)} ({self.name})"

    @abstractmethod
    def load(self, canvas: Canvas) -> Loaded:
        """Place the loaders."""

    @abstractmethod
    def classifier(self, canvas: Canvas, loaded: Loaded) -> Output:
        """A noisy classifier of this family's latents."""

    @abstractmethod
    def asked(self, canvas: Canvas, loaded: Loaded) -> Output:
        """The condition that says what to sample."""

    @abstractmethod
    def one(self, canvas: Canvas, loaded: Loaded) -> Output:
        """The condition that says one thing for all pictures."""

    def wanted(self, canvas: Canvas, loaded: Loaded) -> Output:
        """The condition that asks for what the classifier is asked for."""
        return self.one(canvas, loaded)

    @abstractmethod
    def other(self, canvas: Canvas, loaded: Loaded) -> Output:
        """The condition of something else, for a negative one."""

    @abstractmethod
    def null(self, canvas: Canvas, loaded: Loaded) -> Output:
        """The condition for nothing."""

    @abstractmethod
    def free(self, canvas: Canvas, loaded: Loaded) -> tuple[Output, Output]:
        """(positive, negative) under which a classifier has something to decide."""

    @abstractmethod
    def latent(self, canvas: Canvas, count: int | None = None) -> Output:
        """Empty latents, a row of them unless a count is given."""

    @abstractmethod
    def footnote(self, canvas: Canvas, classifier: bool) -> str:
        """The end of a graph's note: what this family asks of the user."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundled(Family):
    """A model that comes with the pack: a class in place of a prompt, and a classifier that comes along."""

    loader: str  # the node that loads it
    classes: str  # all that it can be asked for, in turn

    def load(self, canvas):
        model = canvas.node(self.loader)
        return Loaded(model, model.slot(1), classifier=model.slot(2), clean=model.slot(4))

    def classifier(self, canvas, loaded):
        return loaded.classifier

    def asked(self, canvas, loaded):
        return canvas.node("GuidanceKitClassCondition", room=20, model=loaded.model, label=self.classes)

    def one(self, canvas, loaded):
        return canvas.node("GuidanceKitClassCondition", room=20, model=loaded.model, label=self.pair[0])

    def wanted(self, canvas, loaded):
        return canvas.node("GuidanceKitClassCondition", room=20, model=loaded.model, label=self.pair[1])

    def other(self, canvas, loaded):
        return canvas.node(
            "GuidanceKitClassCondition", "Another class", room=20, model=loaded.model, label=self.another
        )

    def null(self, canvas, loaded):
        return canvas.node("GuidanceKitNullConditionEncoder", room=60, model=loaded.model, kind="class null label")

    def free(self, canvas, loaded):
        null = self.null(canvas, loaded)
        return null, null

    def latent(self, canvas, count=None):
        size = {"width": self.size, "height": self.size}
        return canvas.node("EmptyLatentImage", **size, batch_size=count or self.count)


@dataclass(frozen=True, kw_only=True, eq=False)
class Digits(Bundled):
    """The bundled digits."""

    def footnote(self, canvas, classifier):
        return (
            f"The same graph for models of your own stands below in Templates: *SD 1.5 - {titled(canvas.name)}*, and "
            "so for *SDXL* and *Flux*."
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Emoji(Bundled):
    """The bundled emoji, with a classifier of attributes and one of clean pictures beside that of the classes."""

    def footnote(self, canvas, classifier):
        return (
            "A small Stable Diffusion of colour emoji that comes with the pack; what it can and cannot do stands in "
            "*docs/emoji-demo.md*."
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompted(Family):
    """A family of models with prompts, of the user's own. small_vae: what Load VAE calls the small one."""

    small_vae: str

    def classifier(self, canvas, loaded):
        return canvas.node("GuidanceKitLoadNoisyClassifier", room=60, file=f"{self.classifier_name}.safetensors")

    def asked(self, canvas, loaded):
        return canvas.node("CLIPTextEncode", clip=loaded.clip, text=PROMPT)

    def one(self, canvas, loaded):
        return self.asked(canvas, loaded)

    def other(self, canvas, loaded):
        return canvas.node("CLIPTextEncode", "Another prompt", clip=loaded.clip, text="rain, fog, empty streets")

    def null(self, canvas, loaded):
        return canvas.node("GuidanceKitNullConditionEncoder", room=60, clip=loaded.clip, kind="empty prompt")

    def free(self, canvas, loaded):
        return self.asked(canvas, loaded), self.null(canvas, loaded)

    def footnote(self, canvas, classifier):
        needed = "It needs " + " and ".join(f"*{each.name}* in models/{each.directory}" for each in self.models)
        needed += (
            f" (ComfyUI offers the download), or other {self.title} files chosen in the loaders; then write a prompt."
        )
        if classifier:
            needed += (
                f" **Load Noisy Classifier** needs a file that you have trained: run the template "
                f"*{self.title} - {titled(TRAINING)}* first. It saves *{self.classifier_name}*, which is chosen "
                "here; the labels in the targets are the ones you train on."
            )
        return needed


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint(Prompted):
    """Model, text encoder and VAE in one file."""

    file: Model

    @property
    def models(self):
        return (self.file,)

    def load(self, canvas):
        model = canvas.node("CheckpointLoaderSimple", room=FAULT, models=[self.file], ckpt_name=self.file.name)
        return Loaded(model, model.slot(2), clip=model.slot(1))

    def latent(self, canvas, count=None):
        size = {"width": self.size, "height": self.size}
        return canvas.node("EmptyLatentImage", **size, batch_size=count or self.count)


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts(Prompted):
    """Model, text encoder and VAE in a file each."""

    models: tuple[Model, Model, Model]
    encoder: str  # type of the text encoder

    def load(self, canvas):
        model, clip, vae = self.models
        return Loaded(
            model=canvas.node("UNETLoader", room=FAULT, models=[model], unet_name=model.name),
            clip=canvas.node("CLIPLoader", room=FAULT, models=[clip], clip_name=clip.name, type=self.encoder),
            vae=canvas.node("VAELoader", room=FAULT, models=[vae], vae_name=vae.name),
        )

    def latent(self, canvas, count=None):
        size = {"width": self.size, "height": self.size}
        return canvas.node("EmptySD3LatentImage", **size, batch_size=count or self.count)

    def footnote(self, canvas, classifier):
        return (
            f"{super().footnote(canvas, classifier)}\n\nThe settings are for Chroma, a model of Flux's kind that is "
            "made for real CFG. Flux.1 dev has its guidance built in: with it use two text encoders (DualCLIPLoader) "
            "and a low CFG scale."
        )
