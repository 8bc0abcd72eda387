"""Training a noise-aware classifier p(y | x_t) on labelled latents, one yielded step at a time."""

import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..classifier.names import as_labels
from ..classifier.noisy import NoisyClassifier
from ..data.augment import Augment
from ..data.sources import Source
from ..data.streaming import Stream
from ..errors import GuidanceError
from ..frozen import frozen
from ..params import make
from .checkpoint import Checkpoint, Damaged, Saved
from .data import as_source
from .optimization import learning, optimizer_step, summing, update_ema, warm_up_and_cosine
from .recipe import Recipe, make_recipe
from .settings import TrainSettings
from .state import TrainState
from .validation import Validation


@frozen
class TrainStep:
    """One finished step: loss and accuracy of its batch; the last step of a run brings the classifier.

    A run that stops early ends before `steps`. validation: in the steps that had one. best(): the best classifier at
    the moment of the call, as a copy: by validation loss, or the newest where nothing is held out or validated yet.
    held_out: the numbers of the examples it never learns from, long [M], to assess it on. notes: sentences about the
    checkpoint that a person should read, each in one step: that it cannot be written, or was damaged.
    """

    step: int
    steps: int
    loss: float
    accuracy: float
    classifier: NoisyClassifier | None = None
    validation: Validation | None = None
    notes: tuple[str, ...] = ()
    best: Callable[[], NoisyClassifier] = field(kw_only=True, repr=False, compare=False)
    held_out: Tensor = field(kw_only=True, repr=False, compare=False)


Training = Generator[TrainStep, None, None]


def train_classifier(
    latents: Tensor | Source | Stream,
    labels: Tensor | Sequence | None = None,
    label_names: Sequence[str] = (),
    *,
    settings: TrainSettings | None = None,
    log_snr_range: tuple[float, float] = (-10.0, 10.0),
    augment: Augment | str | Sequence[str] | None = None,
    latent_space: str = "",
    checkpoint: str | os.PathLike | None = None,
    device: torch.device | str | None = None,
    **changes: Any,
) -> Training:
    """Train p(y | x_t, log-SNR); yields every step, the last with the classifier (its weights the running average).

    latents [N, C, H, W] or [N, C, T, H, W], in the sampler's scale (docs/mathematics.md), with labels as Source.labels
    says; or a Source or a stream, which bring their own. Noise levels are uniform in log-SNR over log_snr_range.
    The loss is the head's (cross-entropy, unless said otherwise) plus entropy_penalty * (log K - H) (arXiv:2206.11474).
    augment: names from AUGMENTS, or (x0 [B, ...], generator) -> x0. device: that of the latents, unless given.
    settings: a TrainSettings; its fields can be given by name as well, and then take the place of those in settings.

    Classes are balanced unless `balance` is off: the classifier answers as if all were equally frequent, which is what
    steering to one of them asks for. With `hold_out` a part of each class validates, copies of one picture stay
    together, and the weights that validated best are kept.

    checkpoint: a file from which the same call goes on, on a CPU bit for bit, after it was closed early or broke off.
    It stays after the last step; the same call then brings that step again. Where it cannot be written training goes on
    without it, and a damaged one is set aside; the steps say so in their notes. Only when the run is closed early does
    a checkpoint that cannot be written raise GuidanceError. In a process group (distributed.launched) every process
    makes the same call and gets the same steps; `batch` is shared out.

    Everything random comes from `seed`. Works under no_grad and inference_mode. Raises GuidanceError, before any work,
    for data or settings that cannot train, and for the checkpoint of another run.
    """
    settings = make(TrainSettings, "train_classifier", (asdict(settings) if settings else {}) | changes)
    source = latents if isinstance(latents, Stream) else as_source(latents, labels)
    recipe = make_recipe(settings, source, as_labels(label_names), log_snr_range, augment, latent_space, device)
    writes = recipe.data.process.rank == 0
    kept = Checkpoint(None, {}, writes) if checkpoint is None else Checkpoint(Path(checkpoint), recipe.identity, writes)
    return _train(recipe, kept, kept.read())


def _train(recipe: Recipe, checkpoint: Checkpoint, saved: Saved | None) -> Training:
    settings, data, process = recipe.settings, recipe.data, recipe.data.process
    batch, steps = int(settings.batch), int(settings.steps)
    with learning():
        state = _begin_or_restore(recipe, checkpoint, saved)
    average, weights = list(state.average.parameters()), list(state.network.parameters())
    feed = recipe.training.feed(data, batch, state.generator, state.step, recipe.augment is not None)
    if state.done(settings):
        yield _report(recipe, state, checkpoint)
    while not state.done(settings):
        with learning():
            examples = next(feed)
            log_snr = data.draw_levels(batch, state.generator)
            x, log_snr, y = data.noise(examples, log_snr, state.generator, recipe.augment)
            state.step += 1
            rate = settings.learning_rate * warm_up_and_cosine(state.step, steps)
            figures = torch.zeros(2, dtype=summing(x.device), device=x.device)  # sums of the batch: loss, accuracy
            losses = _losses(recipe, state, x, log_snr, y, examples.weights, figures)
            optimizer_step(state.optimizer, losses, rate, state.scaler, process)
            update_ema(average, weights, settings.ema, state.step)
            figures = process.all_reduce(figures)
            state.loss, state.accuracy = (figures / batch).tolist()
            _check_finite(state, settings)
            state.validation = None
            if len(recipe.held_out) and (state.step % settings.evaluate_every == 0 or state.done(settings)):
                state.judge(recipe.validator(state.average, state.best.get("loss", math.inf), recipe.precision))
            kept = state.done(settings) and checkpoint.keep(state)
        try:
            yield _report(recipe, state, checkpoint)
        except GeneratorExit:
            if not kept:
                checkpoint.write(state)
            raise
        if not state.done(settings) and state.step % settings.checkpoint_every == 0:
            checkpoint.keep(state)  # now that the step was taken note of: whoever goes on from here has not missed it


def _losses(
    recipe: Recipe,
    state: TrainState,
    x: Tensor,
    log_snr: Tensor,
    y: Tensor,
    weights: Tensor | None,
    figures: Tensor,
) -> Iterator[Tensor]:
    """The loss of this process's samples over the size of the batch, part by part; figures take them in."""
    settings, head = recipe.settings, recipe.head
    weights = torch.ones_like(log_snr) if weights is None else weights.to(log_snr)
    for part in recipe.data.process.pieces_of(int(settings.batch)):
        with recipe.precision:
            logits = state.network(x[part], log_snr[part])
        lack_of_entropy = head.max_entropy(recipe.classes) - head.entropy(logits)
        losses = head.loss(logits, y[part], settings.label_smoothing) + settings.entropy_penalty * lack_of_entropy
        losses = losses * weights[part]
        right = head.accuracy(logits.detach(), y[part])
        figures += torch.stack([losses.detach().sum(), right.sum()]).to(figures)
        yield losses.sum() / int(settings.batch)


def _begin_or_restore(recipe: Recipe, checkpoint: Checkpoint, saved: Saved | None) -> TrainState:
    parameters, settings, device = recipe.card.parameters, recipe.settings, recipe.data.device
    state = TrainState.begin(parameters, settings, device)
    if saved is not None:
        try:
            state.restore(saved, int(settings.steps))
        except Damaged as error:
            checkpoint.set_aside(error)
            state = TrainState.begin(parameters, settings, device)
    if not recipe.data.process.all_equal(state.step, device):
        raise GuidanceError(
            "The processes found different checkpoints: the file must be on a disk that all of them see."
        )
    return state


def _check_finite(state: TrainState, settings: TrainSettings) -> None:
    recovers = state.scaler.is_enabled() and state.scaler.get_scale() > 1e-4  # fp16 skips steps, up to 30 in a row
    if not math.isfinite(state.loss) and not recovers:
        raise GuidanceError(
            f"The loss is not a finite number at step {state.step} of {settings.steps}. Check that the latents are "
            f"finite, or lower learning_rate (it is {settings.learning_rate:g})."
        )


def _report(recipe: Recipe, state: TrainState, checkpoint: Checkpoint) -> TrainStep:
    return TrainStep(
        state.step,
        int(recipe.settings.steps),
        state.loss,
        state.accuracy,
        recipe.best(state) if state.done(recipe.settings) else None,
        state.validation,
        checkpoint.take_notes(),
        best=partial(recipe.best, state),
        held_out=recipe.held_out.indices,
    )
