"""Training a noise-aware classifier p(y | x_t) on labelled latents, one yielded step at a time."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import GuidanceError
from ..paths import VP
from ..tensors import expand
from .network import SIZES, LatentEncoder
from .noisy import NoisyClassifier

Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class TrainStep:
    """One finished step: loss and accuracy of its batch; the last step of a run brings the classifier."""

    step: int
    steps: int
    loss: float
    accuracy: float
    classifier: NoisyClassifier | None = None


def train_classifier(
    latents: Tensor,
    labels: Tensor | Sequence[int],
    label_names: Sequence[str],
    *,
    size: str = "small",
    steps: int = 2000,
    batch: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    log_snr_range: tuple[float, float] = (-10.0, 10.0),
    entropy_penalty: float = 0.1,
    label_smoothing: float = 0.0,
    ema: float = 0.999,
    augment: Augment | None = None,
    latent_space: str = "",
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Iterator[TrainStep]:
    """Train p(y | x_t, log-SNR); yields every step, the last with the classifier (its weights the running average).

    latents [N, C, H, W] or [N, C, T, H, W], in the sampler's scale (math.md, section 3); labels [N], indices into
    label_names. Noise levels are uniform in log-SNR over log_snr_range. The loss is cross-entropy plus
    entropy_penalty * (log K - H) (arXiv:2206.11474). augment: (x0 [B, ...], generator) -> x0, applied to each batch.
    Everything random comes from `seed`. Works under no_grad and inference_mode.
    Raises GuidanceError, before any work, for data or settings that cannot train.
    """
    labels = torch.as_tensor(labels, dtype=torch.long)
    _check_data(latents, labels, label_names)
    _check_settings(size, steps, batch, log_snr_range)
    device = torch.device(device) if device is not None else latents.device
    parameters = {"channels": latents.shape[1], "classes": len(label_names), **SIZES[size]}
    info = {"size": size, "steps": str(steps), "examples": str(len(latents)), "entropy_penalty": str(entropy_penalty)}

    def loss_of(network: nn.Module, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(latents), (batch,), generator=generator, device=device).to(latents.device)
        x0, y = latents[chosen].to(device, torch.float32), labels[chosen.to(labels.device)].to(device)
        if augment is not None:
            x0 = augment(x0, generator)
        log_snr = uniform_levels(batch, *log_snr_range, generator)
        sigma = VP.sigma_at(log_snr)
        noise = torch.randn(x0.shape, generator=generator, device=device)
        logits = network(expand(VP.alpha(sigma), x0) * x0 + expand(sigma, x0) * noise, log_snr)
        log_p = logits.log_softmax(1)
        lack_of_entropy = math.log(logits.shape[1]) + (log_p.exp() * log_p).sum(1).mean()
        loss = F.cross_entropy(logits, y, label_smoothing=label_smoothing) + entropy_penalty * lack_of_entropy
        return loss, (logits.argmax(1) == y).float().mean()

    def run() -> Iterator[TrainStep]:
        # the modes are set around each piece of work: a generator must not leave them changed while it is suspended
        with torch.inference_mode(False), torch.enable_grad():
            network = _seeded_network(parameters, seed).to(device)
            average = copy.deepcopy(network).requires_grad_(False)
            optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=weight_decay)
        generator = torch.Generator(device).manual_seed(seed)
        for step in range(1, steps + 1):
            with torch.inference_mode(False), torch.enable_grad():
                loss, accuracy = loss_of(network, generator)
                descend(optimizer, loss, learning_rate * warm_up_and_cosine(step, steps))
                follow(average, network, ema, step)
            classifier = None
            if step == steps:
                classifier = NoisyClassifier(
                    average.eval(),
                    list(label_names),
                    latent_space,
                    tuple(log_snr_range),
                    architecture="latent_encoder",
                    parameters=parameters,
                    info=info,
                )
            yield TrainStep(step, steps, loss.item(), accuracy.item(), classifier)

    return run()


def uniform_levels(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """`count` draws, each uniform in [low, high), one from each of `count` equal parts (low variance), [count]."""
    part = torch.arange(count, device=generator.device)
    return low + (high - low) * (part + torch.rand(count, generator=generator, device=generator.device)) / count


def warm_up_and_cosine(step: int, steps: int) -> float:
    """Factor on the learning rate at step 1..steps: a linear rise over the first 5 %, then half a cosine to 0."""
    return min(1.0, step / max(1, steps // 20)) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, learning_rate: float) -> None:
    """One optimizer step at a learning rate, the gradient's norm clipped to 1."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the running average of the weights towards the network's; early on it follows faster (short runs)."""
    decay = min(decay, step / (step + 9))
    for a, p in zip(average.parameters(), network.parameters(), strict=True):
        a.lerp_(p, 1 - decay)


def _seeded_network(parameters: dict, seed: int) -> LatentEncoder:
    with torch.random.fork_rng(devices=[]):  # layers draw their weights from the global generator
        torch.manual_seed(seed)
        return LatentEncoder(**parameters)


def _check_data(latents: Tensor, labels: Tensor, label_names: Sequence[str]) -> None:
    if latents.ndim not in (4, 5):
        raise GuidanceError(f"Latents must be [N, C, H, W] or [N, C, T, H, W], got {list(latents.shape)}.")
    if labels.shape != (len(latents),):
        raise GuidanceError(f"Every latent needs one label: got {len(latents)} latents and {labels.numel()} labels.")
    if len(label_names) < 2:
        raise GuidanceError(f"A classifier needs at least 2 labels, got {len(label_names)}.")
    if len(set(label_names)) < len(label_names):
        raise GuidanceError(f"Label names must differ, got {', '.join(label_names)}.")
    wrong = labels[(labels < 0) | (labels >= len(label_names))]
    if len(wrong):
        raise GuidanceError(
            f"Labels must be indices from 0 to {len(label_names) - 1}, one for each label name; got {int(wrong[0])}."
        )
    counts = labels.bincount(minlength=len(label_names)).tolist()
    without = [name for name, count in zip(label_names, counts, strict=True) if count == 0]
    if without:
        raise GuidanceError(f"There is no example of {', '.join(without)}: add some, or leave the label out.")


def _check_settings(size: str, steps: int, batch: int, log_snr_range: tuple[float, float]) -> None:
    if size not in SIZES:
        raise GuidanceError(f"There is no classifier size '{size}'; choose one of {', '.join(SIZES)}.")
    if steps < 1:
        raise GuidanceError(f"The number of training steps must be at least 1, got {steps}.")
    if batch < 1:
        raise GuidanceError(f"The batch must be at least 1, got {batch}.")
    low, high = log_snr_range
    if not low < high:
        raise GuidanceError(f"log_snr_range must rise, got {low} to {high}.")
