"""Training a classifier against a plain loop in PyTorch around the same network."""

from collections.abc import Iterator

import torch
from torch import nn

import guidance_core as gc
from guidance_core.classifier.latent_encoder import SIZES, LatentEncoder

from .measure import Row, Spread, Target, interleaved, ratio

TITLE = "Training"
INTRO = (
    "`gc.train_classifier` against the loop that one would write: draw a batch, noise it, cross-entropy, AdamW. Ours "
    "adds balanced classes, the entropy penalty, clipping, the running average of the weights and a finite-loss check. "
    "Both from the same latents in memory; the ratio is of the time for the same number of steps, start included."
)


def entries(quick: bool) -> Iterator[Row]:
    """The small network on digits' shapes, then the base one on latents of pictures."""
    yield _compared("small", (1, 16, 16), 64, *(5, 2) if quick else (120, 15))
    side, batch = (8, 2) if quick else (64, 8)
    yield _compared("base", (4, side, side), batch, *(2, 1) if quick else (2, 5))


def _compared(size: str, shape: tuple[int, ...], batch: int, steps: int, rounds: int) -> Row:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(512 if size == "small" else 64, *shape, generator=generator)
    labels = torch.arange(len(latents)) % 10
    names = [str(i) for i in range(10)]

    def ours():
        for _ in gc.train_classifier(latents, labels, names, size=size, steps=steps, batch=batch):
            pass

    def plain():
        network = LatentEncoder(shape[0], 10, **SIZES[size]).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
        for _ in range(steps):
            chosen = torch.randint(len(latents), (batch,))
            log_snr = torch.rand(batch) * 20 - 10
            signal = log_snr.sigmoid().sqrt()[:, None, None, None]
            noise = torch.randn(batch, *shape)
            x = signal * latents[chosen] + (1 - signal**2).sqrt() * noise
            loss = nn.functional.cross_entropy(network(x, log_snr), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    a, b = interleaved(ours, plain, rounds=rounds)
    value = ratio(a, b)
    plain_speed = steps * batch / Spread.of(b).median
    speeds = f"{plain_speed / value.median:.4g} and {plain_speed:.4g}"
    name = f"{size} network, {'x'.join(map(str, shape))}, batch {batch}: time, ours / plain"
    made = f"{speeds} latents/s; {steps} steps, {rounds} rounds"
    return Row(name, value, "", Target(high=1.05), made, (ours, plain))
