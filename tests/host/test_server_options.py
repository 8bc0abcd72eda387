"""Our nodes under other options of the server: its caches, its memory, and the precision of a model's weights."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from graph import SIZE, Graph, cfg_combine, checkpoint, classifier_guidance, fresh, ksampler, read, schedule

from devtools.server import ComfyServer

PROBE = Path(__file__).parent / "probe"
OPTIONS = [  # one of caches or memory, which must change no bit, and one of weights, which only a large model reads
    ("--cache-none", "--fp16-unet"),
    ("--cache-lru", "2", "--bf16-unet"),
    ("--disable-smart-memory", "--fp8_e4m3fn-unet"),
]
WITHIN = {"--fp16-unet": 0.01, "--bf16-unet": 0.01, "--fp8_e4m3fn-unet": 0.1}
"""How far a picture may be from that of whole weights, by the weights' precision."""


def combined(g, model):
    """CFG by a method that has a memory, under a schedule."""
    window = schedule(g, "cosine", start=0.0, end=1.0, low=0.2)
    return cfg_combine(g, model, 4.0, "apg", window, eta=0.3, norm_threshold=5.0, momentum=-0.5)


def guided(g, model, classifier, target):
    """Both kinds of guidance."""
    return classifier_guidance(g, combined(g, model), classifier, target, 3.0)


def digits_latent(server):
    """Guided digits, twice in one prompt, so that the second finds what the server has kept."""
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    seven = g.GuidanceKitClassCondition(model=digits, label="seven")
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
    nodes = []
    for _ in range(2):
        latent = g.EmptyLatentImage(width=SIZE, height=SIZE, batch_size=2)
        model = guided(g, digits, digits.slot(2), "seven, -one")
        sampled = ksampler(g, model, latent=latent, positive=seven, negative=null)
        nodes.append(g.ProbeRead(latent=sampled, nonce=fresh()))
    result = server.run(g.prompt)
    first, second = (read(result, node).latent for node in nodes)
    assert np.array_equal(first, second)
    return first


def sd3_latents(server, weights="default"):
    """(plain, under CFG, under a classifier too) latents of a small SD3 that ComfyUI has loaded from a file."""
    name = checkpoint(server)
    g = Graph()
    model = g.UNETLoader(unet_name=name, weight_dtype=weights)
    classifier = g.ProbeClassifier(channels=16, latent_space="", nan_below_log_snr=-1000.0, nonce=fresh())
    latent = g.ProbeLatents(shape="2,16,8,8", level=0.0, seed=1)
    nodes = [
        g.ProbeRead(latent=ksampler(g, m, latent=latent), nonce=fresh())
        for m in (model, combined(g, model), guided(g, model, classifier, "dog"))
    ]
    result = server.run(g.prompt)
    return [read(result, node).latent for node in nodes]


def check_precision(server, other, within):
    """Coarser weights give a picture near the one of whole weights, and each kind of guidance moves it as far."""
    for latent, low in zip(server, other, strict=True):
        assert np.isfinite(low).all()
        assert 0 < np.abs(low - latent).mean() < within * np.abs(latent).mean()
    for (before, after), (before_low, after_low) in zip(pairwise(server), pairwise(other), strict=True):
        change, change_low = np.abs(after - before).mean(), np.abs(after_low - before_low).mean()
        assert 0.8 * change < change_low < 1.25 * change


@pytest.mark.parametrize("weights", ["fp8_e4m3fn", "fp8_e5m2"])
def test_weights_of_eight_bits(server, weights):
    check_precision(sd3_latents(server), sd3_latents(server, weights), 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_options_of_the_server(server, options):
    want, whole = digits_latent(server), sd3_latents(server)
    with ComfyServer(packs=[PROBE], options=options) as other:
        np.testing.assert_array_equal(digits_latent(other), want)
        np.testing.assert_array_equal(digits_latent(other), want)
        check_precision(whole, sd3_latents(other), WITHIN[options[-1]])
