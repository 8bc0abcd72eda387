"""Ways to weaken, on small transformers of ComfyUI's: each differs where it should, and leaves the model alone."""

import numpy as np
import pytest
from graph import Graph, cfg_combine, fresh, ksampler, read, schedule, self_guidance, weakened

from devtools.server import PromptFailed

SHAPES = {"Qwen-Image": "2,16,1,8,8", "Wan": "2,16,3,8,8", "LTX-Video": "2,16,3,8,8", "Hunyuan Video": "2,16,3,8,8"}
FAMILIES = ("SD3", "Flux", "Chroma", "Qwen-Image", "Lumina", "Wan", "LTX-Video", "Hunyuan Video")
VIDEO = {"Wan", "LTX-Video", "Hunyuan Video"}
STEPS = 2
HALF = {"shape": "interval", "axis": "step", "start": 0.0, "end": 0.5}


def knows(way, family):
    if way == "smoothed_energy":
        return family not in ("Lumina", "Hunyuan Video")
    return family in VIDEO or way != "spatiotemporal_skip"


WAYS = ("perturbed_attention", "smoothed_energy", "skipped_layers", "spatiotemporal_skip", "stochastic_blocks")


def sampled(g, model, family, cfg=1.0):
    latent = g.ProbeLatents(shape=SHAPES.get(family, "2,16,8,8"), level=0.0, seed=5)
    return ksampler(g, model, cfg, STEPS, latent=latent)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_way_differs_and_leaves_the_model_as_it_is(server, family):
    """Of one MODEL: each way moves the samples another way, takes its pass inside the window alone, and is off at 0."""
    g = Graph()
    m = g.ProbeTransformer(family=family, dtype="bf16" if family == "Lumina" else "fp32", nonce=fresh())
    ways = [way for way in WAYS if knows(way, family)]
    chains = {"before": m, "off": self_guidance(g, m, weakened(g, m), 0.0)}
    weak = {way: weakened(g, m, way, "0" if way == "spatiotemporal_skip" else "") for way in ways}  # else that of PAG
    chains |= {way: self_guidance(g, m, weak[way], 1.0, schedule(g, **HALF)) for way in ways}
    chains |= {"again": self_guidance(g, m, weakened(g, m, "stochastic_blocks"), 1.0, schedule(g, **HALF))}
    chains |= {"after": cfg_combine(g, m, 1.0)}  # which samples anew, and does nothing
    nodes = {
        name: g.ProbeRead(latent=sampled(g, chain, family), model=m, nonce=fresh()) for name, chain in chains.items()
    }
    result = server.run(g.prompt)
    found = {name: read(result, node) for name, node in nodes.items()}
    plain = found["before"].latent
    assert np.isfinite(plain).all() and np.abs(plain).max() > 0.1
    assert np.array_equal(found["off"].latent, plain) and np.array_equal(found["after"].latent, plain)
    assert np.array_equal(found["again"].latent, found["stochastic_blocks"].latent)
    guided = [found[way].latent for way in ways]
    for i, latent in enumerate(guided):
        assert np.isfinite(latent).all()
        others = [plain, *guided[:i]]
        assert all(np.abs(latent - other).max() > 1e-4 for other in others), f"{ways[i]} is like another"
    inside = len(ways) + 1  # of each one step of two is in the window
    assert sum(reading.passes for reading in found.values()) == len(chains) * STEPS + inside


def test_skipped_layers_are_those_of_comfyui_bit_for_bit(server):
    def latent(build, cfg):
        g = Graph()
        m = g.ProbeTransformer(family="SD3", dtype="fp32", nonce=0)
        node = g.ProbeRead(latent=sampled(g, build(g, m), "SD3", cfg), nonce=fresh())
        return read(server.run(g.prompt), node).latent

    for cfg in (1.0, 4.0):
        ours = latent(lambda g, m: self_guidance(g, m, weakened(g, m, "skipped_layers", "1"), 2.5), cfg)
        core = latent(
            lambda g, m: g.SkipLayerGuidanceDiT(
                model=m,
                double_layers="1",
                single_layers="",
                scale=2.5,
                start_percent=0.0,
                end_percent=1.0,
                rescaling_scale=0.0,
            ),
            cfg,
        )
        assert np.array_equal(ours, core)


def test_the_weaker_self_goes_to_autoguidance_too(server):
    """In place of the negative, by the very numbers of Self-Guidance: g = weak + w (cond - weak)."""
    g = Graph()
    m = g.ProbeTransformer(family="Flux", dtype="fp32", nonce=fresh())
    auto = cfg_combine(g, m, 3.0, "autoguidance", weak=weakened(g, m))
    added = self_guidance(g, m, weakened(g, m), 2.0)
    nodes = [g.ProbeRead(latent=sampled(g, each, "Flux"), model=m, nonce=fresh()) for each in (auto, added)]
    result = server.run(g.prompt)
    one, two = (read(result, node) for node in nodes)
    np.testing.assert_allclose(one.latent, two.latent, atol=1e-4 * np.abs(one.latent).max())
    assert one.passes + two.passes == 2 * 2 * STEPS


REFUSED = {
    "skipped layers of a UNet": (
        "unet",
        {"way": "skipped_layers"},
        "'skipped_layers' knows SD3, Flux, Chroma, .*; this model is a UNet",
    ),
    "video's way on a picture": ("Flux", {"way": "spatiotemporal_skip"}, "knows Wan, LTX-Video, Hunyuan Video; this"),
    "another network": ("video", {}, "this model is VideoNetwork, which is none of these"),
    "a block too far": ("Flux", {"blocks": "double 7"}, "has no block 'double 7'; it has double 0-2; single 0-2"),
    "no block at all": ("Flux", {"blocks": "the best"}, "'the best' names no blocks"),
    "a finite blur of a transformer": ("Flux", {"way": "smoothed_energy", "blur": 2.0}, "set blur to 9999"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_known_is_refused_in_a_sentence(server, case):
    family, settings, words = REFUSED[case]
    g = Graph()
    kinds = {"unet": "eps", "video": "video"}
    if family in kinds:
        m = g.ProbeModel(kind=kinds[family], seed=0, nonce=0)
    else:
        m = g.ProbeTransformer(family=family, dtype="fp32", nonce=0)
    g.ProbeRead(latent=sampled(g, weakened(g, m, **settings), family), nonce=fresh())
    with pytest.raises(PromptFailed, match=f"Weaken Model: .*{words}"):
        server.run(g.prompt)
