"""Ways to weaken, on small transformers of ComfyUI's: each differs where it should, and leaves the model alone."""

import json
import sys

import numpy as np
import pytest
from graph import Graph, cfg_combine, fresh, ksampler, read, schedule, self_guidance, weakened

from devtools.server import PromptFailed

SHAPES = {"Qwen-Image": "2,16,1,8,8", "Wan": "2,16,3,8,8", "LTX-Video": "2,16,3,8,8", "Hunyuan Video": "2,16,3,8,8"}
FAMILIES = ("SD3", "Flux", "Chroma", "Qwen-Image", "Lumina", "Wan", "LTX-Video", "Hunyuan Video")
VIDEO = {"Wan", "LTX-Video", "Hunyuan Video"}
SKIPPING = {"skipped_layers", "stochastic_blocks"}  # which UNets have not
STEPS = 2
HALF = {"shape": "interval", "axis": "step", "start": 0.0, "end": 0.5}


DTYPES = {"Lumina": "bf16", "Wan": "bf16", "Flux": "fp16", "Qwen-Image": "fp16"}
WAYS = (
    "perturbed_attention",
    "smoothed_energy",
    "skipped_layers",
    "spatiotemporal_skip",
    "stochastic_blocks",
    "spatiotemporal_residual",
    "token_perturbation",
    "sliding_windows",
)
WINDOWS = 4  # passes of sliding_windows in the place of one


def knows(way, family):
    return family in VIDEO or not way.startswith("spatiotemporal")


def blocks(way):
    """Blocks with which a way is like no other: those of STG are by themselves those of PAG and SLG in small models."""
    return "0" if way.startswith("spatiotemporal") else ""


def sampled(g, model, family, cfg=1.0):
    latent = g.ProbeLatents(shape=SHAPES.get(family, "2,16,8,8"), level=0.0, seed=5)
    return ksampler(g, model, cfg, STEPS, latent=latent)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_way_differs_and_leaves_the_model_as_it_is(server, family):
    """Of one MODEL: each way moves the samples another way, takes its pass inside the window alone, and is off at 0."""
    g = Graph()
    m = g.ProbeTransformer(family=family, dtype=DTYPES.get(family, "fp32"), nonce=fresh())
    ways = [way for way in WAYS if knows(way, family)]
    chains = {"before": m, "off": self_guidance(g, m, weakened(g, m), 0.0)}
    weak = {way: weakened(g, m, way, blocks(way)) for way in ways}
    chains |= {way: self_guidance(g, m, weak[way], 1.0, schedule(g, **HALF)) for way in ways}
    chains |= {"again": self_guidance(g, m, weakened(g, m, "token_perturbation"), 1.0, schedule(g, **HALF))}
    chains |= {"after": cfg_combine(g, m, 1.0)}  # which samples anew, and does nothing
    nodes = {
        name: g.ProbeRead(latent=sampled(g, chain, family), model=m, nonce=fresh()) for name, chain in chains.items()
    }
    result = server.run(g.prompt)
    found = {name: read(result, node) for name, node in nodes.items()}
    plain = found["before"].latent
    assert np.isfinite(plain).all() and np.abs(plain).max() > 0.1
    assert np.array_equal(found["off"].latent, plain) and np.array_equal(found["after"].latent, plain)
    assert np.array_equal(found["again"].latent, found["token_perturbation"].latent)
    guided = [found[way].latent for way in ways]
    for i, latent in enumerate(guided):
        assert np.isfinite(latent).all()
        others = [plain, *guided[:i]]
        assert all(np.abs(latent - other).max() > 1e-4 for other in others), f"{ways[i]} is like another"
    inside = len(ways) + 1 + WINDOWS - 1  # of each one step of two is in the window, and so of the one run again
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
    "residuals of a picture": ("Flux", {"way": "spatiotemporal_residual"}, "knows Wan, LTX-Video, Hunyuan Video; this"),
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


EDITED = [(family, 0) for family in FAMILIES] + [("Flux", 1), ("Qwen-Image", 2)]  # and how many pictures to edit


@pytest.mark.parametrize(("family", "references"), EDITED)
def test_which_tokens_are_of_the_picture_and_in_which_rows(server, family, references):
    """They are those that change with the latent; the last column of its second to last row is at that very place."""
    g = Graph()
    m = g.ProbeTransformer(family=family, dtype="fp32", nonce=0)
    shape = SHAPES.get(family, "2,16,8,12").replace("8,8", "8,12")
    node = g.ProbeTokens(model=m, shape=shape, references=references, nonce=fresh())
    found = json.loads(server.run(g.prompt).outputs[node.node]["text"][0])
    rows, columns = found["grid"]
    assert (rows, columns) == ((8, 12) if family == "LTX-Video" else (4, 6))
    assert found["told"] == found["changed"] and len(found["told"]) % (rows * columns) == 0
    assert len(found["counts"]) == (2 if family == "SD3" else 1)  # whose second one has no text
    assert set(found["counts"]) == {len(found["told"])}
    if family != "Lumina":  # whose picture is mixed by layers before the first block
        row = rows - (2 if family == "LTX-Video" else 1)
        assert (found["one"] - found["told"][0]) % (rows * columns) == row * columns + columns - 1


REFERENCES = {  # our way and its settings, the model, and latents that are cut evenly
    "smoothed energy of diffusers": ("eps", "smoothed_energy", {}, "2,4,16,16"),
    "its blur, which ends in the picture": ("eps", "smoothed_energy", {"blur": 1.5}, "2,4,32,32"),
    "its blur of half a place": ("eps", "smoothed_energy", {"blur": 0.5}, "2,4,16,16"),
    "token perturbation in a UNet": ("eps", "token_perturbation", {"blocks": "middle", "seed": 3}, "2,4,16,16"),
    "token perturbation in Flux": ("Flux", "token_perturbation", {"blocks": "double", "seed": 3}, "2,16,8,12"),
    "sliding windows of a UNet": ("eps", "sliding_windows", {"size": 0.75}, "2,4,16,16"),
    "sliding windows of a video": ("Wan", "sliding_windows", {"size": 0.625}, "2,16,3,32,32"),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_each_is_what_its_authors_or_diffusers_make_of_it(server, case):
    family, way, settings, shape = REFERENCES[case]
    if way == "smoothed_energy" and sys.version_info < (3, 11):
        pytest.skip("diffusers needs Python 3.11")
    g = Graph()
    if family == "eps":
        m = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    else:
        m = g.ProbeTransformer(family=family, dtype="fp32", nonce=0)
    node = g.ProbeWeakened(model=m, weak=weakened(g, m, way, **settings), shape=shape, nonce=fresh())
    found = json.loads(server.run(g.prompt).outputs[node.node]["text"][0])
    assert found["moved"] > 1e-4 and found["apart"] < 1e-5 and found["left"] == 0


@pytest.mark.parametrize("family", ["eps", "Flux"])
def test_batch_mates_do_not_matter(server, family):
    """Of a batch of two the first comes out as it does alone, whichever way the weaker self is made."""
    g = Graph()
    if family == "eps":
        m, ways = g.ProbeModel(kind="eps", seed=0, nonce=0), [w for w in WAYS if w not in SKIPPING]
    else:
        m, ways = g.ProbeTransformer(family=family, dtype="fp32", nonce=0), WAYS
    channels = 4 if family == "eps" else 16
    nodes = []
    for way in (way for way in ways if not way.startswith("spatiotemporal")):
        guided = self_guidance(g, m, weakened(g, m, way), 1.0)
        for count in (2, 1):
            latent = g.ProbeLatents(shape=f"{count},{channels},8,8", level=0.0, seed=5)
            nodes.append((way, g.ProbeRead(latent=ksampler(g, guided, 1.0, STEPS, latent=latent), nonce=fresh())))
    result = server.run(g.prompt)
    for (way, two), (_, one) in zip(nodes[::2], nodes[1::2], strict=True):
        both, alone = read(result, two).latent, read(result, one).latent
        np.testing.assert_allclose(both[:1], alone, atol=1e-4 * np.abs(alone).max(), err_msg=way)
        assert np.abs(both[1] - both[0]).max() > 1e-2


def test_windows_and_tokens_go_together(server):
    """A model weakened twice is weakened in both ways, in either order: the blur sees the grid of the window."""
    g = Graph()
    m = g.ProbeTransformer(family="Flux", dtype="fp32", nonce=fresh())

    def twice(first, second):
        return weakened(g, weakened(g, m, first[0], **first[1]), second[0], **second[1])

    one, two = ("sliding_windows", {"size": 0.5}), ("smoothed_energy", {"blur": 1.0})
    weak = [twice(one, two), twice(two, one), weakened(g, m, one[0], **one[1]), weakened(g, m, two[0], **two[1])]
    latent = g.ProbeLatents(shape="1,16,16,16", level=0.0, seed=5)
    nodes = [
        g.ProbeRead(latent=ksampler(g, self_guidance(g, m, each, 1.0), 1.0, STEPS, latent=latent), nonce=fresh())
        for each in weak
    ]
    result = server.run(g.prompt)
    both, turned, windows, blur = (read(result, node).latent for node in nodes)
    assert np.array_equal(both, turned)
    assert min(np.abs(both - windows).max(), np.abs(both - blur).max()) > 1e-4


def test_windows_do_not_cut_what_a_controlnet_gives(server):
    g = Graph()
    m = g.ProbeModel(kind="eps", seed=0, nonce=0)
    hint = g.EmptyImage(width=64, height=64, batch_size=1, color=0x4080C0)
    control = g.ControlNetApplyAdvanced(
        positive=g.ProbeCondition(seed=1),
        negative=g.ProbeCondition(seed=2),
        control_net=g.ProbeControlNet(),
        image=hint,
        strength=0.8,
        start_percent=0.0,
        end_percent=1.0,
    )
    guided = self_guidance(g, m, weakened(g, m, "sliding_windows"), 1.0)
    done = ksampler(g, guided, 1.0, STEPS, positive=control, negative=control.slot(1))
    g.ProbeRead(latent=done, nonce=fresh())
    with pytest.raises(PromptFailed, match="'sliding_windows' cannot cut what a ControlNet gives"):
        server.run(g.prompt)
