"""What a classifier term costs at SD1.5's size, in time and memory, against heavier ways to guide."""

from collections.abc import Iterator

import comfy.ldm.models.autoencoder
import torch
from torch import Tensor, nn

import guidance_core as gc
from guidance_core.classifier.adm import AdmEncoder

from . import host
from .base_classifier import base_classifier, gradient
from .measure import Row, Side, Spread, Target, interleaved, ratio
from .peak import NOT_MEASURED, STATUS, peak_of

TITLE = "What a classifier costs"
INTRO = (
    "One classifier term (the base network, forward and backward) beside one step of an SD1.5-sized UNet with CFG; by "
    "multiplications alone it would be 1.31 % at 64x64. Random weights, which cost what trained ones do. A step takes "
    "long on a CPU, so that the two are timed one after the other and not turn by turn: the share is of the steps' "
    "median, and the quartiles are the classifier's alone. Peak memory is of fresh processes."
)
DECODER = {  # SD1.5's autoencoder
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def entries(quick: bool) -> Iterator[Row | str]:
    """Share of a step, peers, and peak memory."""
    width, sides, batches = (64, (8, 16), (1, 2)) if quick else (320, (64, 128), (1, 4))
    rounds = 2 if quick else 7
    yield from _shares(width, sides, batches, rounds)
    yield from _peers(sides[0], rounds)
    yield from _memory(quick, width, sides[0])


def _shares(width: int, sides, batches, rounds: int) -> Iterator[Row]:
    model, positive, negative = host.sd15(width)
    classifier = base_classifier()
    for side in sides:
        for batch in batches:
            noise = torch.randn(batch, 4, side, side)
            few = rounds if side * batch < 64 else 3 if side * batch == 64 else 1

            def step(noise=noise):
                return host.sampled(model, positive, negative, noise, host.karras(model, 1))

            [steps] = interleaved(step, rounds=few, warm_up=few > 1)
            term = gradient(classifier, (batch, 4, side, side))
            [times] = interleaved(term, rounds=rounds)
            whole = Spread.of(steps).median
            share = Spread.of([time / whole * 100 for time in times])
            made = f"{Spread.of(times).median * 1e3:.4g} ms of {whole * 1e3:.5g} ms; {rounds} and {few} rounds"
            name = f"base classifier, share of a CFG step, {side}x{side}, batch {batch}"
            yield Row(name, share, "%", Target(high=1.5), made, (term, lambda: None))


def _peers(side: int, rounds: int) -> Iterator[Row]:
    ours = gradient(base_classifier(), (1, 4, side, side))
    adm = gc.NoisyClassifier(
        host.randomised(AdmEncoder(3, 1000, side, 128, [1, 2, 3, 4], 4, [32, 16, 8], schedule="cosine")),
        [str(i) for i in range(1000)],
    )
    theirs = gradient(adm, (1, 3, side, side))
    a, b = interleaved(ours, theirs, rounds=rounds)
    made = f"{Spread.of(a).median * 1e3:.4g} ms and {Spread.of(b).median * 1e3:.4g} ms; {rounds} rounds"
    name = f"gradient at {side}x{side}, base classifier on latents / ADM's 64x64 classifier on pixels"
    yield Row(name, ratio(a, b), target=Target(high=1.0), detail=made, suspect=(ours, theirs))
    theirs = through_decoder(decoder(), torch.randn(1, 4, side, side))
    a, b = interleaved(ours, theirs, rounds=min(rounds, 3), warm_up=False)
    made = f"{Spread.of(a).median * 1e3:.4g} ms and {Spread.of(b).median * 1e3:.4g} ms, without the judge of pixels"
    name = f"gradient at {side}x{side}, base classifier / x0-hat through SD's VAE decoder"
    yield Row(name, ratio(a, b), target=Target(high=1.0), detail=made, suspect=(ours, theirs))


def decoder() -> nn.Module:
    """SD1.5's autoencoder with random weights, as ComfyUI has it."""
    network = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=DECODER, embed_dim=4)
    return host.randomised(network).eval().requires_grad_(False)


def through_decoder(network: nn.Module, x0: Tensor) -> Side:
    """What guidance by a judge of pixels must do at least: decode the prediction, and go back to the latent."""

    def run():
        with torch.inference_mode(False), torch.enable_grad():
            leaf = x0.clone().requires_grad_()
            return torch.autograd.grad(network.decode(leaf).sum(), leaf)[0]

    return run


def _memory(quick: bool, width: int, side: int) -> Iterator[Row | str]:
    if not STATUS.exists():
        yield NOT_MEASURED
        return
    rounds = {"alone": 3, "classifier": 3, "decoder": 1}
    peaks = {
        kind: [peak_of("benchmarks.peak", kind, width, side) for _ in range(1 if quick else count)]
        for kind, count in rounds.items()
    }
    alone = Spread.of(peaks["alone"]).median
    for kind, name, target in (
        ("classifier", "the base classifier", Target(high=150)),
        ("decoder", "x0-hat through SD's VAE decoder", None),
    ):
        above = Spread.of([peak - alone for peak in peaks[kind]])
        made = f"above a peak of {alone:.0f} MB; fresh processes, {len(peaks[kind])} with it"
        yield Row(f"peak memory added by {name}, {side}x{side}, batch 1", above, "MB", target, made)
