"""Image References in a real ComfyUI: likeness to pictures steers, whatever model compares, which is left as it was."""

import re

import numpy as np
import pytest
from graph import Graph, classifier_guidance, fresh, ksampler, read

from devtools.server import PromptFailed


def picture(g, seed, level=0.0):
    """A digit of noise, as an IMAGE."""
    digits = g.GuidanceKitLoadDigitsDemo()
    return g.VAEDecode(samples=g.ProbeLatents(shape="1,1,16,16", level=level, seed=seed), vae=digits.slot(1))


def run(server, scale, kind="clip", others=False, vae=True):
    """(the latents, what the guidance node said, how alike the reference is at the end) of four digits."""
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    vision, given = g.ProbeVision(kind=kind, nonce=0), {}
    if others:
        given["others"] = picture(g, 6, -1.0)
    if vae:
        given["vae"] = digits.slot(1)
    references = g.GuidanceKitImageReferences(clip_vision=vision, images=picture(g, 5, 1.0), **given)
    guided = classifier_guidance(g, digits, references, "reference", scale)
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
    empty = g.EmptyLatentImage(width=128, height=128, batch_size=4)
    latent = ksampler(g, guided, steps=8, sampler="euler_ancestral", latent=empty, positive=null, negative=null)
    node = g.ProbeRead(latent=latent, nonce=fresh())
    result = server.run(g.prompt)
    said = "\n".join(result.texts.get(guided.node, []) + result.texts.get(references.node, []))
    return read(result, node).latent, said


def at_the_last(said):
    """How alike the classifier finds the last step, as the node says it: a score, or a share."""
    return float(re.search(r"at the end: ([-.\d]+)", said)[1])


@pytest.mark.parametrize("kind", ["clip", "siglip", "dino"])
@pytest.mark.parametrize("others", [False, True])
def test_likeness_steers_towards_and_away(server, kind, others):
    plain, loaded = run(server, 0.0, kind, others)
    towards, said = run(server, 1.0, kind, others)
    away, said_away = run(server, -1.0, kind, others)
    for guided in (towards, away):
        assert np.isfinite(guided).all() and np.abs(guided - plain).max() > 1e-3
    assert at_the_last(said) > at_the_last(said_away)
    assert "1 to be like" in loaded and ("1 to be unlike" in loaded) == others and "decoded by the VAE" in loaded


def test_without_a_vae_the_previews_colours_are_compared(server):
    _, said = run(server, 1.0, "clip", vae=False)
    assert "rough colours" in said


def test_the_vision_model_gives_the_same_bits_afterwards(server):
    def bits(guide):
        g = Graph()
        vision = g.ProbeVision(kind="clip", nonce=fresh())
        if guide:
            digits = g.GuidanceKitLoadDigitsDemo()
            references = g.GuidanceKitImageReferences(clip_vision=vision, images=picture(g, 5))
            null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
            empty = g.EmptyLatentImage(width=128, height=128, batch_size=1)
            guided = classifier_guidance(g, digits, references, "reference", 1.0)
            latent = ksampler(g, guided, latent=empty, positive=null, negative=null)
            first = g.ProbeRead(latent=latent, nonce=fresh())
            server.run(g.prompt)
            del g.prompt[first.node]
        node = g.ProbeVisionSum(vision=vision, image=picture(g, 7), nonce=fresh())
        return server.run(g.prompt).outputs[node.node]["text"]

    assert bits(True) == bits(False)


def test_a_vision_model_of_pieces_is_refused(server):
    with pytest.raises(PromptFailed, match="Image References: this CLIP vision model takes pictures in pieces"):
        run(server, 1.0, "naflex")
