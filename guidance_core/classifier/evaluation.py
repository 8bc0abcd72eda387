"""Accuracy and calibration of a noise-aware classifier as the noise grows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import GuidanceError
from ..paths import VE, Path
from ..tensors import expand


@dataclass(frozen=True)
class Bin:
    """Over noise levels between two log-SNRs: share of right answers, and expected calibration error."""

    log_snr_low: float
    log_snr_high: float
    accuracy: float
    calibration_error: float


@torch.no_grad()
def accuracy_by_log_snr(
    classifier: Callable[[Tensor, Tensor, Path], Tensor],
    latents: Tensor,
    labels: Tensor,
    bins: Sequence[float],
    generator: torch.Generator | None = None,
    repeats: int = 1,
    batch: int = 256,
) -> list[Bin]:
    """Measure a classifier on clean latents [N, C, ...] with labels [N], noised uniformly in log-SNR inside each bin.

    bins: rising edges, one bin between each two. repeats: draws of noise for each latent. The classifier must already
    be on the latents' device. Raises GuidanceError unless there are two edges that rise.
    """
    if len(bins) < 2 or any(a >= b for a, b in zip(bins, bins[1:], strict=False)):
        raise GuidanceError(f"Bins must be two or more rising log-SNR edges, got {list(bins)}.")
    device = generator.device if generator is not None else latents.device
    measured = []
    for low, high in zip(bins, bins[1:], strict=False):
        probabilities, truths = [], []
        for start in range(0, len(latents) * repeats, batch):
            chosen = torch.arange(start, min(start + batch, len(latents) * repeats)) % len(latents)
            x0, y = latents[chosen.to(latents.device)], labels[chosen.to(labels.device)]
            log_snr = low + (high - low) * torch.rand(len(x0), generator=generator, device=device)
            noise = torch.randn(x0.shape, generator=generator, device=device)
            sigma = VE.sigma_at(log_snr.to(x0))
            x = x0 + expand(sigma, x0) * noise.to(x0)
            probabilities.append(classifier(x, sigma, VE).float().softmax(1))
            truths.append(y.to(x0.device))
        confidence, guess = torch.cat(probabilities).max(1)
        right = (guess == torch.cat(truths)).float()
        measured.append(Bin(low, high, float(right.mean()), calibration_error(confidence, right)))
    return measured


def calibration_error(confidence: Tensor, right: Tensor, parts: int = 15) -> float:
    """Expected calibration error (arXiv:1706.04599): mean |accuracy - confidence| over `parts` equal parts of [0, 1].

    confidence [N] in [0, 1], right [N] of 0 and 1.
    """
    part = (confidence * parts).long().clamp(max=parts - 1)
    gap = torch.zeros(parts, device=confidence.device).index_add_(0, part, right - confidence)
    return float(gap.abs().sum() / len(confidence))
