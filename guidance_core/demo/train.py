"""Retrain the digits demo from scratch: `python -m guidance_core.demo.train`. Every draw has a fixed seed."""

import argparse
import copy
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..assess.metrics import accuracy_by_log_snr
from ..classifier.noisy import NoisyClassifier
from ..files import write_tensors
from ..frozen import frozen
from ..null import drop_condition
from ..paths import VE
from ..progress import Progress, run_to_end
from ..schedules import betas, sigmas_from_betas
from ..tensors import expand
from ..train.data import uniform_levels
from ..train.loop import TrainStep, train_classifier
from ..train.optimization import optimizer_step, update_ema, warm_up_and_cosine
from .data import ABOUT, LABELS, Digits, jitter, load_digits, to_image
from .guide import Guide, halves
from .judge import Judge, JudgeNetwork, within_class_distance
from .network import NULL, DigitsUNet

PARTS = ("denoiser", "classifier", "judge", "guide")
LOG_SNR_EDGES = [float(edge) for edge in range(-10, 11, 2)]

vary = partial(jitter, shift=0.5, degrees=5.0, zoom=0.04)
"""The variation that the denoiser and the noisy classifier both learn: they must agree on what digits look like."""

CLASSIFIER_SETTINGS: dict[str, Any] = {
    "steps": 2200,
    "learning_rate": 2e-3,
    "log_snr_range": (-8.0, 5.0),
    "entropy_penalty": 0.0,
    "augment": vary,
    "latent_space": "digits",
}
"""No penalty blunts the probabilities, so that guidance is as strong as Bayes says.

The noise levels are those where the class is neither plain nor lost: spread over -10 to 10, guidance is weaker.
"""


@frozen
class LossProgress(Progress):
    """`done` of `count` steps are trained, the last at this loss."""

    loss: float


Network = TypeVar("Network", bound=nn.Module)
Training = Generator[LossProgress, None, Network]


def train(
    network: Network,
    loss_of: Callable[[Network], Tensor],
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.01,
    ema: float = 0.999,
) -> Training[Network]:
    """Minimise loss_of(network) with AdamW, warm-up and cosine; returns the running average of the network."""
    average = copy.deepcopy(network).requires_grad_(False)
    weights = list(network.parameters())
    optimizer = torch.optim.AdamW(weights, learning_rate, weight_decay=weight_decay)
    for step in range(1, steps + 1):
        loss = loss_of(network)
        optimizer_step(optimizer, loss, learning_rate * warm_up_and_cosine(step, steps))
        update_ema(average.parameters(), weights, ema, step)
        yield LossProgress(step, steps, loss.item())
    return average.eval()


def train_denoiser(digits: Digits, steps: int = 4000, batch: int = 64, seed: int = 0) -> Training[DigitsUNet]:
    """v-prediction at uniform t on the linear schedule; 15 % of the labels become the null label."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    sigmas = sigmas_from_betas(betas("linear", n=1000))

    def loss_of(network: DigitsUNet) -> Tensor:
        chosen = torch.randint(len(digits.labels), (batch,), generator=generator)
        x0 = vary(digits.x0[chosen], generator)
        y = drop_condition(digits.labels[chosen], NULL, 0.15, generator)
        t = uniform_levels(batch, 0, len(sigmas), generator).long().clamp(max=len(sigmas) - 1)
        noise = torch.randn(x0.shape, generator=generator)
        log_snr = VE.log_snr(sigmas[t])
        alpha, sigma = expand(log_snr.sigmoid().sqrt(), x0), expand((-log_snr).sigmoid().sqrt(), x0)
        return F.mse_loss(network(alpha * x0 + sigma * noise, t, y), alpha * noise - sigma * x0)

    network = DigitsUNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own omission
    return train(network, loss_of, steps, learning_rate=2e-3)


def train_demo_classifier(digits: Digits) -> Iterator[TrainStep]:
    """The small noisy classifier."""
    return train_classifier(digits.x0, digits.labels, LABELS, **CLASSIFIER_SETTINGS)


def train_judge(digits: Digits, steps: int = 1000, batch: int = 64, seed: int = 1) -> Training[JudgeNetwork]:
    """Cross-entropy on moved, turned, zoomed and slightly noisy digits."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)

    def loss_of(network: JudgeNetwork) -> Tensor:
        chosen = torch.randint(len(digits.labels), (batch,), generator=generator)
        images = to_image(jitter(digits.x0[chosen], generator, shift=1.5, degrees=12.0, zoom=0.1))
        images = images + 0.05 * torch.randn(images.shape, generator=generator)
        return F.cross_entropy(network(images), digits.labels[chosen], label_smoothing=0.05)

    return train(JudgeNetwork(), loss_of, steps, learning_rate=1e-3, weight_decay=0.05)


def train_guide(digits: Digits, steps: int = 1500, batch: int = 64, seed: int = 3) -> Training[Guide]:
    """Cross-entropy on clean digits of the guide's half, moved, turned and zoomed, without any noise."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    half = halves(digits)[0]

    def loss_of(network: Guide) -> Tensor:
        chosen = torch.randint(len(half.labels), (batch,), generator=generator)
        x0 = jitter(half.x0[chosen], generator, shift=1.5, degrees=12.0, zoom=0.1)
        return F.cross_entropy(network(x0), half.labels[chosen])

    return train(Guide(), loss_of, steps, learning_rate=1e-3, weight_decay=0.05)


def save(network: nn.Module, file: Path, dtype: torch.dtype, metadata: dict[str, str]) -> None:
    """Write the weights in dtype, whole or not at all."""
    write_tensors(file, {name: t.to(dtype) for name, t in network.state_dict().items()}, metadata)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m guidance_core.demo.train", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the weights (here)")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="the parts to train (all)")
    arguments = parser.parse_args()
    digits, held_out = load_digits()
    began = time.monotonic()

    def report(name: str, step: int, steps: int | None, loss: float) -> None:
        if step % 250 == 0 or step == steps:
            seconds = time.monotonic() - began
            print(f"{name}: step {step} of {steps}, loss {loss:.4f}, {seconds:.0f} s", flush=True)

    def trained(name: str, training: Training[Network]) -> Network:
        return run_to_end(training, lambda progress: report(name, progress.done, progress.count, progress.loss))

    if "judge" in arguments.only:
        judge = trained("judge", train_judge(digits))
        accuracy = Judge(judge, 0.0, 1.0).accuracy(held_out.images, held_out.labels)
        spread = within_class_distance(held_out.images, held_out.labels)
        print(f"judge: accuracy {accuracy:.4f} on held-out digits")
        metadata = {"held_out_accuracy": str(accuracy), "spread": str(spread)}
        save(judge, arguments.out / "judge.safetensors", torch.float32, metadata | ABOUT)
    if "guide" in arguments.only:
        guide = trained("guide", train_guide(digits))
        right = guide(held_out.x0).argmax(1) == held_out.labels
        print(f"guide: accuracy {float(right.float().mean()):.4f} on held-out digits")
        save(guide, arguments.out / "guide.safetensors", torch.float32, ABOUT)
    if "classifier" in arguments.only:
        for step in train_demo_classifier(digits):
            report("classifier", step.step, step.steps, step.loss)
        classifier = cast(NoisyClassifier, step.classifier)  # the last step brings it
        generator = torch.Generator().manual_seed(0)
        for b in accuracy_by_log_snr(classifier, held_out.x0, held_out.labels, LOG_SNR_EDGES, generator, repeats=10):
            print(
                f"classifier: log-SNR {b.log_snr_low:3.0f} to {b.log_snr_high:3.0f}: "
                f"accuracy {b.accuracy:.3f}, calibration error {b.calibration_error:.3f}"
            )
        info = classifier.info | {key: ABOUT[key] for key in ("data", "data_licence")}
        classifier = NoisyClassifier(classifier.network, classifier.card, info=info).recording(
            author=ABOUT["author"], licence=ABOUT["licence"]
        )
        classifier.save(arguments.out / "classifier.safetensors")
    if "denoiser" in arguments.only:
        network = trained("denoiser", train_denoiser(digits))
        metadata = {"predicts": "v", "betas": "linear"} | ABOUT
        save(network, arguments.out / "denoiser.safetensors", torch.float16, metadata)


if __name__ == "__main__":
    main()
