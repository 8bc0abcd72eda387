"""Accuracy, calibration and temperature of a noise-aware classifier as the noise grows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..classifier.heads import Head, as_head
from ..classifier.measurements import MAX_CONFUSION, Bin, Knots
from ..classifier.temperature import temperature_at
from ..distributed import Process
from ..errors import GuidanceError
from ..frozen import frozen
from ..paths import VE, NoisePath
from ..progress import Progress, Work, run_to_end
from ..tensors import expand
from .calibrate import fit_temperature

PARTS = 15  # of [0, 1], over which calibration is measured


@frozen(eq=False)
class Evaluation:
    """What `evaluate` measured: the bins, rising in log-SNR, and what their figures are to be held against.

    chance, chance_loss: the accuracy of always giving the most frequent answer, and the loss of always giving the
    labels' frequencies (of scores: their mean). draws: in each bin. reliability [bins, PARTS, 3]: of the answers whose
    confidence lies in each part of [0, 1] the count, the sum of the confidences, and the count of right ones; all 0 for
    scores. confusion [bins, K, K]: how often truth (row) was answered by label (column); None where an answer is
    not one label, and for more than MAX_CONFUSION labels. knots: the fitted temperatures; () where none were fitted.
    """

    head: Head
    bins: tuple[Bin, ...]
    chance: float
    chance_loss: float
    draws: int
    reliability: Tensor
    confusion: Tensor | None
    knots: Knots = ()


@frozen(eq=False)
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
    head: str | Head = "single",
    temperature: bool = False,
    generator: torch.Generator | None = None,
    repeats: int = 1,
    batch: int = 256,
    process: Process | None = None,
) -> Work[Evaluation]:
    """Measure a classifier on clean latents [N, C, ...], noised uniformly in log-SNR inside each bin.

    labels: what the head's loss takes: indices [N], or for "multi" and "regression" [N, K]. bins: rising edges, one bin
    between each two. head: a Head or its name. temperature: fit one a bin, and measure with them applied; the
    classifier must then apply none itself, and scores have none. repeats: draws of noise for each latent. The
    classifier must already be on the latents' device. process: of a group in which every process makes the same call;
    each answers its share of the batches, and the figures are those of one, in every process. Yields after every batch.
    Raises GuidanceError, before any work, for arguments that do not fit.
    """
    _check(bins, latents, labels)
    head = as_head(head)
    draws = len(latents) * repeats
    starts = range(0, draws, batch)
    device = generator.device if generator is not None else latents.device
    process = process or Process()

    @torch.no_grad()
    def answers(start: int, low: float, high: float) -> tuple[Tensor | None, Tensor, Tensor]:
        """The logits of one of this process's own batches; the noise is drawn for all of them."""
        chosen = torch.arange(start, min(start + batch, draws)) % len(latents)
        x0, y = latents[chosen.to(latents.device)], labels[chosen.to(labels.device)]
        log_snr = low + (high - low) * torch.rand(len(x0), generator=generator, device=device)
        noise = torch.randn(x0.shape, generator=generator, device=device)
        y, log_snr = y.to(x0.device), log_snr.to(x0)
        if start // batch % process.world_size != process.rank:
            return None, y, log_snr.float()
        sigma = VE.sigma_at(log_snr)
        logits = classifier(x0 + expand(sigma, x0) * noise.to(x0), sigma, VE)
        return logits.float(), y, log_snr.float()

    def run() -> Work[Evaluation]:
        collected, step = [], 0
        for low, high in zip(bins, bins[1:], strict=False):
            parts = []
            for start in starts:
                parts.append(answers(start, low, high))
                step += 1
                yield Progress(step, (len(bins) - 1) * len(starts))
            logits, y, log_snr = zip(*parts, strict=True)
            gathered = _gathered(logits, [*map(len, y)], process, latents.device)
            collected.append(_Answers(low, high, gathered, torch.cat(y), torch.cat(log_snr)))
        knots: Knots = ()
        if temperature and head.has_probabilities:
            knots = tuple(((a.low + a.high) / 2, fit_temperature(a.logits, a.y, head)) for a in collected)
        return _evaluation(head, collected, knots)

    return run()


def _check(bins: Sequence[float], latents: Tensor, labels: Tensor) -> None:
    if len(bins) < 2 or any(a >= b for a, b in zip(bins, bins[1:], strict=False)):
        raise GuidanceError(f"Bins must be two or more rising log-SNR edges, got {list(bins)}.")
    if len(latents) == 0 or len(labels) != len(latents):
        raise GuidanceError(f"Every latent needs its labels: got {len(latents)} latents and {len(labels)} labels.")


def _gathered(parts: Sequence[Tensor | None], sizes: Sequence[int], process: Process, device: torch.device) -> Tensor:
    """All logits in order, of which each process has some parts."""
    own = [part for part in parts if part is not None]
    classes = process.largest(own[0].shape[1] if own else 0, device)
    rows = [torch.zeros(n, classes, device=device) if p is None else p for p, n in zip(parts, sizes, strict=True)]
    return process.all_reduce(torch.cat(rows))  # a sum of one number and zeros is the number


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


def _evaluation(head: Head, collected: list[_Answers], knots: Knots) -> Evaluation:
    if knots:
        collected = [replace(a, logits=a.logits / temperature_at(a.log_snr, knots)[:, None]) for a in collected]
    bins, reliabilities, confusions = [], [], []
    for i, a in enumerate(collected):
        measured = head.measure(a.logits, a.y)
        reliability = _reliability(measured.confidence, measured.right)
        loss = float(head.loss(a.logits, a.y).mean())
        bins.append(Bin(a.low, a.high, measured.accuracy, _error(reliability), loss, knots[i][1] if knots else 1.0))
        reliabilities.append(reliability)
        confusions.append(head.confusion(a.logits, a.y) if a.logits.shape[1] <= MAX_CONFUSION else None)
    counted = [confusion for confusion in confusions if confusion is not None]
    confusion = torch.stack(counted).cpu() if counted else None
    y = collected[0].y
    return Evaluation(head, tuple(bins), *head.chance(y), len(y), torch.stack(reliabilities).cpu(), confusion, knots)
