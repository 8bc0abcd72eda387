"""Training a noise-aware classifier p(y | x_t) on labelled latents, one yielded step at a time."""

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..classifier.card import Record
from ..classifier.heads import Head, as_head, heads
from ..classifier.latent_encoder import SIZES, LatentEncoder
from ..classifier.metadata import check_card
from ..classifier.names import as_labels
from ..classifier.noisy import NoisyClassifier
from ..data.augment import Augment, augmentation
from ..data.sources import Source, TensorSource
from ..errors import GuidanceError
from ..params import Checked, choice, flag, integer, make, number
from .batches import Batches, drawn, first_of_each, split
from .checkpoint import damaged, read_checkpoint, write_checkpoint
from .distributed import Share, share
from .validation import Validation, ValidationBin, Validator

_Tensors = dict[str, dict[str, Tensor]]
_Saved = tuple[_Tensors, dict[str, Any]]
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainSettings(Checked):
    """The settings of train_classifier that are plain values."""

    head: str = choice(
        "single", tuple(heads()), "What labels are: one a picture (single), any number (multi), or scores (regression)."
    )
    size: str = choice("small", tuple(SIZES), "The network: small for simple data, base or large for real pictures.")
    steps: int = integer(2000, 1, 10_000_000, "How many batches to learn from.")
    batch: int = integer(64, 1, 65536, "Pictures in a batch, over all processes together.")
    learning_rate: float = number(1e-3, 1e-7, 1.0, 1e-5, "The highest learning rate: it rises, then falls to 0.")
    hold_out: float = number(0.0, 0.0, 0.5, 0.05, "Share of the pictures kept aside to validate with; 0 is none.")
    patience: int = integer(
        0, 0, 10_000, "Stop after this many validations in a row that bring nothing better; 0 never stops early."
    )
    balance: bool = flag(True, "Draw every class equally often, so that large classes do not drown small ones.")
    seed: int = integer(0, 0, 2**64 - 1, "Everything random comes from it.")
    evaluate_every: int = integer(100, 1, 1_000_000, "Steps from one validation to the next.", advanced=True)
    checkpoint_every: int = integer(500, 1, 1_000_000, "Steps from one checkpoint to the next.", advanced=True)
    weight_decay: float = number(0.05, 0.0, 1.0, 0.01, "How strongly weights are drawn to 0.", advanced=True)
    entropy_penalty: float = number(
        0.1, 0.0, 10.0, 0.05, "Keeps the classifier from being too sure (ECT, arXiv:2206.11474).", advanced=True
    )
    label_smoothing: float = number(
        0.0, 0.0, 0.9, 0.01, "Doubt about the labels: this share of each is spread over all answers.", advanced=True
    )
    ema: float = number(0.999, 0.0, 0.999999, 0.0001, "How slowly the averaged weights follow.", advanced=True)
    precision: str = choice(
        "auto", ("auto", *PRECISIONS), "Arithmetic: auto is bf16 or fp16 on an NVIDIA GPU, else fp32.", advanced=True
    )

    def __post_init__(self) -> None:
        if isinstance(self.head, Head):
            object.__setattr__(self, "head", self.head.name)
        super().__post_init__()
        if self.patience and not self.hold_out:
            raise GuidanceError("Stopping early (patience) needs a validation: hold_out must be above 0.")
        if self.label_smoothing and not as_head(self.head).smooths:
            raise GuidanceError(f"Scores are not smoothed: label_smoothing must be 0 with the head '{self.head}'.")

    @property
    def fewest(self) -> int:
        """The different pictures that a class must have."""
        return 4 if self.hold_out else 2


@dataclass(frozen=True)
class TrainStep:
    """One finished step: loss and accuracy of its batch; the last step of a run brings the classifier.

    A run that stops early ends before `steps`. validation: in the steps that had one. best(): the best classifier at
    the moment of the call, as a copy: by validation loss, or the newest where nothing is held out or validated yet.
    held_out: the numbers of the examples it never learns from, long [M], to assess it on.
    """

    step: int
    steps: int
    loss: float
    accuracy: float
    classifier: NoisyClassifier | None = None
    validation: Validation | None = None
    best: Callable[[], NoisyClassifier] = field(kw_only=True, repr=False, compare=False)
    held_out: Tensor = field(kw_only=True, repr=False, compare=False)


def train_classifier(
    latents: Tensor | Source,
    labels: Tensor | Sequence | None = None,
    label_names: Sequence[str] = (),
    *,
    log_snr_range: tuple[float, float] = (-10.0, 10.0),
    augment: Augment | str | Sequence[str] | None = None,
    latent_space: str = "",
    checkpoint: str | os.PathLike | None = None,
    device: torch.device | str | None = None,
    **settings: Any,
) -> Iterator[TrainStep]:
    """Train p(y | x_t, log-SNR); yields every step, the last with the classifier (its weights the running average).

    latents [N, C, H, W] or [N, C, T, H, W], in the sampler's scale (docs/mathematics.md), with labels as Source.labels
    says; or a Source, which brings its own. Noise levels are uniform in log-SNR over log_snr_range. The loss is the
    head's (cross-entropy, unless said otherwise) plus entropy_penalty * (log K - H) (arXiv:2206.11474). augment: names
    from AUGMENTS, or (x0 [B, ...], generator) -> x0. device: that of the latents, unless given. settings: the fields of
    TrainSettings.

    Classes are balanced unless `balance` is off: the classifier answers as if all were equally frequent, which is what
    steering to one of them asks for. With `hold_out` a part of each class validates, copies of one picture stay
    together, and the weights that validated best are kept.

    checkpoint: a file from which the same call goes on, on a CPU bit for bit, after it was closed early or broke off.
    It stays after the last step; the same call then brings that step again. In a process group (distributed.launched)
    every process makes the same call and gets the same steps; `batch` is shared out.

    Everything random comes from `seed`. Works under no_grad and inference_mode. Raises GuidanceError, before any work,
    for data or settings that cannot train, and for the checkpoint of another run.
    """
    run = _Run(
        make(TrainSettings, "train_classifier", settings),
        _source(latents, labels),
        as_labels(label_names),
        log_snr_range,
        augment,
        latent_space,
        device,
    )
    if checkpoint is None:
        return run.go(None, None)
    identity = run.identity()
    saved = read_checkpoint(checkpoint, identity) if os.path.exists(checkpoint) else None
    return run.go(saved, lambda tensors, progress: write_checkpoint(checkpoint, tensors, progress, identity))


class _Run:
    """One training run: what is fixed from the beginning, and what every step changes."""

    def __init__(
        self,
        settings: TrainSettings,
        source: Source,
        names: list[str],
        log_snr_range: tuple[float, float],
        augment: Augment | str | Sequence[str] | None,
        latent_space: str,
        device: torch.device | str | None,
    ):
        low, high = log_snr_range
        if not low < high:
            raise GuidanceError(f"log_snr_range must rise, got {low} to {high}.")
        self.settings, self.names = settings, names
        self.augment, varied = _augmentation(augment)
        self.head, self.share = as_head(settings.head), share()
        if settings.batch < self.share.world:
            raise GuidanceError(f"{self.share.world} processes cannot share a batch of {settings.batch}: enlarge it.")
        self.training, self.held_out = _parts(source, names, self.head, settings)
        y, head_info = self.head.prepare(source.labels, self.training)
        self.bounds = self._balance(source, self.training).cumsum(0)
        self.device = torch.device(device) if device is not None else source.load(torch.tensor([0])).device
        self.batches = Batches(source, y, (float(low), float(high)), self.device, self.share)
        self.validator = None
        if len(self.held_out):
            weights = self._balance(source, self.held_out)
            batch, seed = int(settings.batch), int(settings.seed)
            self.validator = Validator(self.batches, self.head, self.held_out, weights, batch, seed)
        self.dtype = _dtype(settings.precision, self.device)
        self.precision = nullcontext() if self.dtype == torch.float32 else torch.autocast(self.device.type, self.dtype)
        self.said = asdict(settings) | {"seed": str(int(settings.seed)), "augment": varied}
        self.bare = NoisyClassifier(
            nn.Identity(),
            names,
            latent_space,
            self.batches.log_snr_range,
            architecture="latent_encoder",
            parameters={"channels": source.shape[0], "classes": len(names), **SIZES[settings.size]},
            info=head_info,
            head=settings.head,
            record=Record(training=self.said | {"examples": len(self.training)}),
        )
        check_card(self.bare.card, "The classifier to train")  # refused now, not when it is saved

    @cached_property
    def data(self) -> str:
        """The data's fingerprint."""
        return self.batches.source.fingerprint()

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must have in common with the run that goes on from it."""
        identity = self.said | {
            "label_names": self.names,
            "latent_space": self.bare.latent_space,
            "log_snr_range": self.batches.log_snr_range,
            "network": self.bare.parameters,
            "device": self.device.type,
            "precision": str(self.dtype).removeprefix("torch."),
            "data": self.data,
        }
        del identity["checkpoint_every"]
        return identity

    def go(self, saved: _Saved | None, write: Callable[[_Tensors, dict], None] | None) -> Iterator[TrainStep]:
        """The steps from the beginning, or from what was saved. write: is given the run's state to keep."""
        with _learning():
            self._begin()
            if saved is not None:
                self._restore(*saved)
        if write is not None and not self.share.agree(self.step, self.device):
            raise GuidanceError(
                "The processes found different checkpoints: the file must be on a disk that all of them see."
            )
        keep = write if self.share.rank == 0 else None
        if self._done():
            yield self._report()
        while not self._done():
            with _learning():
                self._learn()
                if self.validator and (self.step % self.settings.evaluate_every == 0 or self._done()):
                    self._validate()
                kept = keep is not None and (self._done() or self.step % self.settings.checkpoint_every == 0)
                if kept:
                    keep(*self._state())
            try:
                yield self._report()
            except GeneratorExit:
                if keep is not None and not kept:
                    keep(*self._state())
                raise

    def _balance(self, source: Source, indices: Tensor) -> Tensor:
        labels = source.labels[indices]
        return self.head.balance(labels) if self.settings.balance else torch.ones(len(labels), dtype=torch.float64)

    def _begin(self) -> None:
        settings = self.settings
        network = _seeded_network(self.bare.parameters, int(settings.seed))
        self.network = network.to(self.device, memory_format=torch.channels_last)  # convolutions are faster so
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.averaged, self.weights = list(self.average.parameters()), list(self.network.parameters())
        self.optimizer = torch.optim.AdamW(
            self.weights,
            settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.dtype == torch.float16)
        self.generator = torch.Generator(self.device).manual_seed(int(settings.seed))
        self.step, self.loss, self.accuracy = 0, math.nan, math.nan
        self.validation: Validation | None = None
        self.best: dict[str, float] = {}  # step, loss and accuracy of the validation whose weights are the best
        self.best_weights: dict[str, Tensor] = {}
        self.waited = 0  # validations since

    def _done(self) -> bool:
        return self.step == self.settings.steps or 0 < self.settings.patience <= self.waited

    def _learn(self) -> None:
        settings, batch = self.settings, int(self.settings.batch)
        indices = drawn(self.training, self.bounds, batch, self.generator)
        levels = self.batches.levels(batch, self.generator)
        x, log_snr, y = self.batches.noised(indices, levels, self.generator, self.augment)
        with self.precision:
            logits = self.network(x, log_snr)
        lack_of_entropy = self.head.max_entropy(len(self.names)) - self.head.entropy(logits)
        losses = self.head.loss(logits, y, settings.label_smoothing) + settings.entropy_penalty * lack_of_entropy
        right = self.head.accuracy(logits.detach(), y)
        self.step += 1
        rate = settings.learning_rate * warm_up_and_cosine(self.step, int(settings.steps))
        descend(self.optimizer, losses.sum() / batch, rate, self.scaler, self.share)
        follow(self.averaged, self.weights, settings.ema, self.step)
        figures = self.share.add_up(torch.stack([losses.detach().sum(), right.sum()]))
        self.loss, self.accuracy = (figures / batch).tolist()
        self.validation = None
        recovers = self.scaler.is_enabled() and self.scaler.get_scale() > 1e-4  # fp16 skips steps, up to 30 in a row
        if not math.isfinite(self.loss) and not recovers:
            raise GuidanceError(
                f"The loss is not a finite number at step {self.step} of {settings.steps}. Check that the latents are "
                f"finite, or lower learning_rate (it is {settings.learning_rate:g})."
            )

    def _validate(self) -> None:
        self.validation = self.validator(self.average, self.best.get("loss", math.inf), self.precision)
        self.waited += 1
        if self.validation.best:
            self.waited = 0
            self.best = {"step": self.step, "loss": self.validation.loss, "accuracy": self.validation.accuracy}
            self.best_weights = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}

    def _report(self) -> TrainStep:
        return TrainStep(
            self.step,
            int(self.settings.steps),
            self.loss,
            self.accuracy,
            self._best() if self._done() else None,
            self.validation,
            best=self._best,
            held_out=self.held_out,
        )

    def _best(self) -> NoisyClassifier:
        with _learning():
            network = copy.deepcopy(self.average).to(memory_format=torch.contiguous_format)  # as its file gives it back
            if self.best_weights:
                network.load_state_dict(self.best_weights)
        best = {f"validation_{name}": value for name, value in self.best.items()}
        training = self.bare.record.training | {"trained_steps": self.step} | best
        return replace(self.bare, network=network).recording(training=training, data_hash=self.data)

    def _state(self) -> _Saved:
        moments = self.optimizer.state_dict()["state"]
        tensors = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best_weights,
            "optimizer": {f"{i}.{name}": moment for i, named in moments.items() for name, moment in named.items()},
            "generator": {"state": self.generator.get_state()},
        }
        progress = {name: getattr(self, name) for name in _PROGRESS}
        progress["validation"] = asdict(self.validation) if self.validation else None
        progress["scaler"] = self.scaler.state_dict()
        return tensors, progress

    def _restore(self, tensors: _Tensors, progress: dict[str, Any]) -> None:
        try:
            self.network.load_state_dict(tensors["network"])
            self.average.load_state_dict(tensors["average"])
            self.best_weights = {name: tensor.to(self.device) for name, tensor in tensors.get("best", {}).items()}
            moments: dict[int, dict[str, Tensor]] = {}
            for key, moment in tensors["optimizer"].items():
                index, _, name = key.partition(".")
                weight = self.weights[int(index)]
                if moment.shape == weight.shape:
                    moment = torch.empty_like(weight).copy_(moment)  # in memory as the weight is, as `fused` expects
                moments.setdefault(int(index), {})[name] = moment
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
            self.generator.set_state(tensors["generator"]["state"])
            for name in _PROGRESS:
                setattr(self, name, progress[name])
            if progress["validation"]:
                bins = tuple(ValidationBin(**part) for part in progress["validation"]["bins"])
                self.validation = Validation(**progress["validation"] | {"bins": bins})
            self.scaler.load_state_dict(progress["scaler"])
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise damaged(error) from error


_PROGRESS = ("step", "loss", "accuracy", "best", "waited")


def warm_up_and_cosine(step: int, steps: int) -> float:
    """Factor on the learning rate at step 1..steps: a linear rise over the first 5 %, then half a cosine to 0."""
    return min(1.0, step / max(1, steps // 20)) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))


def descend(
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    learning_rate: float,
    scaler: torch.amp.GradScaler | None = None,
    share: Share | None = None,
) -> None:
    """One optimizer step at a learning rate, the gradient (added up over the processes) clipped to the norm 1."""
    scaler = scaler or torch.amp.GradScaler("cuda", enabled=False)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    (share or Share()).add_up_gradients(parameters)
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(parameters, 1.0)
    scaler.step(optimizer)
    scaler.update()


@torch.no_grad()
def follow(average: list[Tensor], weights: list[Tensor], decay: float, step: int) -> None:
    """Move the running average of a network's weights towards them; early on it follows faster (short runs)."""
    decay = min(decay, step / (step + 9))
    torch._foreach_lerp_(average, weights, 1 - decay)


@contextmanager
def _learning() -> Iterator[None]:
    """Autograd on, around each piece of work: a generator must not leave the modes changed while it is suspended."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _seeded_network(parameters: dict, seed: int) -> LatentEncoder:
    with torch.random.fork_rng(devices=[]):  # layers draw their weights from the global generator
        torch.manual_seed(seed)
        return LatentEncoder(**parameters)


def _source(latents: Tensor | Source, labels: Tensor | Sequence | None) -> Source:
    if not isinstance(latents, Tensor):
        return latents
    if labels is None:
        raise GuidanceError("Latents need labels, one each; only a Source brings its own.")
    return TensorSource(latents, torch.as_tensor(labels))


def _parts(source: Source, names: list[str], head: Head, settings: TrainSettings) -> tuple[Tensor, Tensor]:
    """(training, held out), once the labels are known to suffice."""
    labels = source.labels
    head.check(labels, names, settings.fewest)
    if not settings.hold_out:
        return torch.arange(len(labels)), torch.arange(0)
    groups = source.groups
    head.check(labels[first_of_each(groups)], names, settings.fewest)
    generator = torch.Generator().manual_seed(int(settings.seed))
    training, held = split(groups, head.strata(labels), settings.hold_out, generator)
    head.check(labels[training], names, 1)
    return training, held


def _augmentation(augment: Augment | str | Sequence[str] | None) -> tuple[Augment | None, str]:
    """The variation and its description."""
    if callable(augment):
        return augment, "a function"
    names = augment.split(",") if isinstance(augment, str) else augment or ()
    names = [name.strip() for name in names if name.strip()]
    return augmentation(names), ", ".join(names)


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    if precision == "fp16" and device.type != "cuda":
        raise GuidanceError(f"precision 'fp16' needs an NVIDIA GPU, and the device is {device}: choose 'auto'.")
    return PRECISIONS[precision]
