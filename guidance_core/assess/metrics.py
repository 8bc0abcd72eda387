"""Accuracy, calibration and temperature of a noise-aware classifier as the noise grows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..classifier.heads import HEADS
from ..classifier.temperature import Knots, fit_temperature, temperature_at
from ..errors import GuidanceError
from ..paths import VE, NoisePath
from ..progress import Progress, Work, run_to_end
from ..tensors import expand

PARTS = 15  # of [0, 1], over which calibration is measured
MAX_CONFUSION = 64
"""Labels beyond which no confusion matrix is kept."""


@dataclass(frozen=True)
class Bin:
    """Over noise levels between two log-SNRs: accuracy, expected calibration error, loss and fitted temperature.

    accuracy: the share of right answers, of independent labels the mean over them; of scores R^2, the share of their
    variance that is explained. calibration_error: 0 for scores. loss: -log p(y | x) in nats as the head has it, of
    independent labels the mean over them. temperature: what divides the logits here.
    """

    log_snr_low: float
    log_snr_high: float
    accuracy: float
    calibration_error: float
    loss: float
    temperature: float = 1.0


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` measured: the bins, rising in log-SNR, and what their figures are to be held against.

    chance, chance_loss: the accuracy of always giving the most frequent answer, and the loss of always giving the
    labels' frequencies (of scores: their mean). draws: in each bin. reliability [bins, PARTS, 3]: of the answers whose
    confidence lies in each part of [0, 1] the count, the sum of the confidences, and the count of right ones; all 0 for
    scores. confusion [bins, K, K]: how often truth (row) was answered by label (column); None for heads other than
    "single" and for more than MAX_CONFUSION labels. knots: the fitted temperatures; () where none were fitted.
    """

    head: str
    bins: tuple[Bin, ...]
    chance: float
    chance_loss: float
    draws: int
    reliability: Tensor
    confusion: Tensor | None
    knots: Knots = ()


@dataclass(frozen=True, eq=False)
class _Answers:
    """What was answered between two log-SNRs: logits [N, K], what the head's loss takes, log-SNR [N]."""

    low: float
    high: float
    logits: Tensor
    y: Tensor
    log_snr: Tensor


def even_edges(log_snr_range: tuple[float, float], parts: int = 10) -> list[float]:
    """The edges of `parts` bins of equal width over a range of log-SNR."""
    low, high = log_snr_range
    return [low + (high - low) * i / parts for i in range(parts)] + [high]


def evaluate(
    classifier: Callable[[Tensor, Tensor, NoisePath], Tensor],
    latents: Tensor,
    labels: Tensor,
    bins: Sequence[float],
    *,
    head: str = "single",
    temperature: bool = False,
    generator: torch.Generator | None = None,
    repeats: int = 1,
    batch: int = 256,
) -> Work[Evaluation]:
    """Measure a classifier on clean latents [N, C, ...], noised uniformly in log-SNR inside each bin.

    labels: what the head's loss takes: indices [N], or for "multi" and "regression" [N, K]. bins: rising edges, one bin
    between each two. temperature: fit one a bin, and measure with them applied; the classifier must then apply none
    itself, and scores have none. repeats: draws of noise for each latent. The classifier must already be on the
    latents' device. Yields after every batch. Raises GuidanceError, before any work, for arguments that do not fit.
    """
    if len(bins) < 2 or any(a >= b for a, b in zip(bins, bins[1:], strict=False)):
        raise GuidanceError(f"Bins must be two or more rising log-SNR edges, got {list(bins)}.")
    if head not in HEADS:
        raise GuidanceError(f"There is no classifier head '{head}'; choose one of {', '.join(HEADS)}.")
    if len(latents) == 0 or len(labels) != len(latents):
        raise GuidanceError(f"Every latent needs its labels: got {len(latents)} latents and {len(labels)} labels.")
    draws = len(latents) * repeats
    starts = range(0, draws, batch)
    steps = (len(bins) - 1) * len(starts)
    device = generator.device if generator is not None else latents.device

    @torch.no_grad()
    def answers(start: int, low: float, high: float) -> tuple[Tensor, Tensor, Tensor]:
        chosen = torch.arange(start, min(start + batch, draws)) % len(latents)
        x0, y = latents[chosen.to(latents.device)], labels[chosen.to(labels.device)]
        log_snr = low + (high - low) * torch.rand(len(x0), generator=generator, device=device)
        noise = torch.randn(x0.shape, generator=generator, device=device)
        sigma = VE.sigma_at(log_snr.to(x0))
        logits = classifier(x0 + expand(sigma, x0) * noise.to(x0), sigma, VE)
        return logits.float(), y.to(x0.device), log_snr.to(x0).float()

    def run() -> Work[Evaluation]:
        collected, step = [], 0
        for low, high in zip(bins, bins[1:], strict=False):
            parts = []
            for start in starts:
                parts.append(answers(start, low, high))
                step += 1
                yield Progress(step, steps)
            collected.append(_Answers(low, high, *(torch.cat(part) for part in zip(*parts, strict=True))))
        knots = ()
        if temperature and head != "regression":
            knots = tuple(((a.low + a.high) / 2, fit_temperature(a.logits, a.y, head)) for a in collected)
        return _evaluation(head, collected, knots)

    return run()


def accuracy_by_log_snr(
    classifier: Callable[[Tensor, Tensor, NoisePath], Tensor],
    latents: Tensor,
    labels: Tensor,
    bins: Sequence[float],
    generator: torch.Generator | None = None,
    repeats: int = 1,
    batch: int = 256,
) -> list[Bin]:
    """The bins of `evaluate` for labels that exclude each other, measured in one go."""
    work = evaluate(classifier, latents, labels, bins, generator=generator, repeats=repeats, batch=batch)
    return list(run_to_end(work).bins)


def calibration_error(confidence: Tensor, right: Tensor, parts: int = PARTS) -> float:
    """Expected calibration error (arXiv:1706.04599): mean |accuracy - confidence| over `parts` equal parts of [0, 1].

    confidence [N] in [0, 1], right [N] of 0 and 1.
    """
    return _error(_reliability(confidence, right, parts))


def calibration_noise(reliability: Tensor) -> float:
    """The calibration error that so few answers, [PARTS, 3] as in Evaluation, would show were they calibrated."""
    count, confidence, _ = reliability.double().unbind(1)
    variance = confidence * (1 - confidence / count.clamp(min=1)).clamp(min=0)
    return float((2 / math.pi * variance).sqrt().sum() / count.sum().clamp(min=1))


def _reliability(confidence: Tensor, right: Tensor, parts: int = PARTS) -> Tensor:
    part = (confidence * parts).long().clamp(max=parts - 1)
    rows = torch.stack([torch.ones_like(confidence), confidence, right.to(confidence)], 1)
    return torch.zeros(parts, 3, device=confidence.device).index_add_(0, part, rows)


def _error(reliability: Tensor) -> float:
    count, confidence, right = reliability.unbind(1)
    return float((right - confidence).abs().sum() / count.sum().clamp(min=1))


def _evaluation(head: str, collected: list[_Answers], knots: Knots) -> Evaluation:
    measure, chance = _MEASURES[head]
    if knots:
        collected = [replace(a, logits=a.logits / temperature_at(a.log_snr, knots)[:, None]) for a in collected]
    bins, reliabilities, confusions = [], [], []
    for i, a in enumerate(collected):
        accuracy, reliability, confusion = measure(a.logits, a.y)
        loss = float(HEADS[head].loss(a.logits, a.y).mean())
        bins.append(Bin(a.low, a.high, accuracy, _error(reliability), loss, knots[i][1] if knots else 1.0))
        reliabilities.append(reliability)
        confusions.append(confusion)
    confusion = None if confusions[0] is None else torch.stack(confusions).cpu()
    y = collected[0].y
    return Evaluation(head, tuple(bins), *chance(y), len(y), torch.stack(reliabilities).cpu(), confusion, knots)


def _measure_single(logits: Tensor, y: Tensor) -> tuple[float, Tensor, Tensor | None]:
    confidence, guess = logits.softmax(1).max(1)
    right = (guess == y).float()
    confusion, classes = None, logits.shape[1]
    if classes <= MAX_CONFUSION:
        confusion = (y * classes + guess).bincount(minlength=classes**2).reshape(classes, classes)
    return float(right.mean()), _reliability(confidence, right), confusion


def _chance_single(y: Tensor) -> tuple[float, float]:
    share = y.bincount().float() / len(y)
    return float(share.max()), float(torch.special.entr(share).sum())


def _measure_multi(logits: Tensor, y: Tensor) -> tuple[float, Tensor, None]:
    p = logits.sigmoid()
    right = ((logits > 0) == (y > 0.5)).float()
    return float(right.mean()), _reliability(torch.maximum(p, 1 - p).flatten(), right.flatten()), None


def _chance_multi(y: Tensor) -> tuple[float, float]:
    accuracy = (y > 0.5).float().mean(0)
    share = y.float().mean(0)
    loss = F.binary_cross_entropy(share.expand_as(y), y.float())
    return float(torch.maximum(accuracy, 1 - accuracy).mean()), float(loss)


def _measure_regression(logits: Tensor, y: Tensor) -> tuple[float, Tensor, None]:
    unexplained = (logits - y).square().sum() / (y - y.mean(0)).square().sum().clamp(min=1e-12)
    return 1 - float(unexplained), torch.zeros(PARTS, 3), None


def _chance_regression(y: Tensor) -> tuple[float, float]:
    return 0.0, float(0.5 * (y - y.mean(0)).square().mean())


_MEASURES = {
    "single": (_measure_single, _chance_single),
    "multi": (_measure_multi, _chance_multi),
    "regression": (_measure_regression, _chance_regression),
}
