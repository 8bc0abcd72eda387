"""What a classifier term costs at SD1.5's size, in time and memory, against heavier ways to guide."""

import subprocess
import sys
from collections.abc import Iterator

import comfy.ldm.models.autoencoder
import torch
from torch import Tensor, nn

import guidance_core as gc
from devtools.host import ROOT
from guidance_core.classifier.adm import AdmEncoder
from guidance_core.classifier.network import SIZES, LatentEncoder

from . import host
from .measure import Row, Side, Spread, Target, interleaved, ratio
from .peak import STATUS

TITLE = "What a classifier costs"
INTRO = (
    "One classifier term (the base network, forward and backward) beside one step of an SD1.5-sized UNet with CFG; by "
    "multiplications alone it would be 1.31 % at 64x64. Random weights, which cost what trained ones do. A step takes "
    "long on a CPU, so that the two are timed one after the other and not turn by turn, and the quartiles are the "
    "classifier's."
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


def base_classifier(channels: int = 4) -> gc.NoisyClassifier:
    """An untrained classifier of the size for real pictures, whose gradient is not 0."""
    parameters = {"channels": channels, "classes": 10, **SIZES["base"]}
    network = host.randomised(LatentEncoder(**parameters)).eval().requires_grad_(False)
    return gc.NoisyClassifier(network, [str(i) for i in range(10)], parameters=parameters)


def gradient(classifier, shape: tuple[int, ...]) -> Side:
    """One gradient of a classifier at random latents."""
    x, labels = torch.randn(shape, generator=torch.Generator().manual_seed(0)), torch.zeros(shape[0]).long()
    return lambda: gc.log_prob_grad(classifier, x, 1.0, labels)


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
            yield Row(name, share, "%", Target(high=1.5), made, term)


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
    yield Row(name, ratio(a, b), target=Target(high=1.0), detail=made, suspect=ours)
    theirs = through_decoder(decoder(), torch.randn(1, 4, side, side))
    a, b = interleaved(ours, theirs, rounds=min(rounds, 3), warm_up=False)
    made = f"{Spread.of(a).median * 1e3:.4g} ms and {Spread.of(b).median * 1e3:.4g} ms, without the judge of pixels"
    name = f"gradient at {side}x{side}, base classifier / x0-hat through SD's VAE decoder"
    yield Row(name, ratio(a, b), target=Target(high=1.0), detail=made, suspect=ours)


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
        yield f"Peak memory is not measured here: it is read from {STATUS}, which this system has not."
        return
    kinds = ("alone", "classifier", "decoder")
    peaks = {kind: [_peak(kind, width, side) for _ in range(1 if quick or kind == "decoder" else 3)] for kind in kinds}
    alone = Spread.of(peaks["alone"]).median
    made = f"peak {alone:.0f} MB without; a fresh process each time, {len(peaks['alone'])} rounds"
    above = Spread.of([peak - alone for peak in peaks["classifier"]])
    yield Row(f"peak memory added by the base classifier, {side}x{side}, batch 1", above, "MB", Target(high=150), made)
    above = Spread.of([peak - alone for peak in peaks["decoder"]])
    yield Row(f"peak memory added by x0-hat through SD's VAE decoder, {side}x{side}, batch 1", above, "MB", None, made)


def _peak(kind: str, width: int, side: int) -> float:
    command = [sys.executable, "-m", "benchmarks.peak", kind, str(width), str(side)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])
