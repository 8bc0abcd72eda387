"""Text References in a real ComfyUI: texts steer through a CLIP's two towers, which are left as they were."""

import re

import numpy as np
import pytest
from graph import Graph, classifier_guidance, fresh, ksampler, read

from devtools.server import PromptFailed, PromptRejected

TEXT = "a smiling face, -blurry"


def references(g, text=TEXT, kind="whole", width=24, vision="clip", **given):
    """A Text References node on small towers."""
    return g.GuidanceKitTextReferences(
        clip_vision=g.ProbeVision(kind=vision, nonce=0),
        clip=g.ProbeTextTower(kind=kind, width=width, nonce=0),
        text=text,
        **given,
    )


def run(server, scale, text=TEXT, **changes):
    """(the latents, what the guidance node said) of two digits."""
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    judge = references(g, text, vae=digits.slot(1), **changes)
    guided = classifier_guidance(g, digits, judge, judge.slot(1), scale)
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
    empty = g.EmptyLatentImage(width=128, height=128, batch_size=2)
    latent = ksampler(g, guided, sampler="euler_ancestral", latent=empty, positive=null, negative=null)
    node = g.ProbeRead(latent=latent, nonce=fresh())
    result = server.run(g.prompt)
    return read(result, node).latent, "\n".join(result.texts[guided.node])


def score(said):
    """Of the target at the last step, as the node says it."""
    return float(re.search(r"core at the end: ([-.\d]+)", said)[1])


def test_texts_steer_towards_and_away(server):
    towards, said = run(server, 1.0)
    away, said_away = run(server, -1.0)
    assert np.isfinite(towards).all() and np.isfinite(away).all()
    assert score(said) > score(said_away)
    turned, _ = run(server, 1.0, "-a smiling face, blurry")
    np.testing.assert_allclose(turned, away, atol=1e-4)
    assert "no measure of success" in said


def test_scores_are_the_cosines_of_the_hosts_own_encoders(server):
    """And both towers are the same to the bit afterwards."""
    g = Graph()
    vision, clip = g.ProbeVision(kind="clip", nonce=0), g.ProbeTextTower(kind="whole", width=24, nonce=fresh())
    judge = g.GuidanceKitTextReferences(clip_vision=vision, clip=clip, text='(A smiling face:2) | -"blurry, dull"')
    picture = g.EmptyImage(width=28, height=28, batch_size=1, color=0x3366CC)

    def scores():
        node = g.ProbeTextScores(classifier=judge, clip=clip, vision=vision, image=picture, nonce=fresh())
        return server.run(g.prompt).outputs[node.node]["text"]

    ours, theirs, labels, before = scores()
    assert labels == "A smiling face,blurry, dull"
    ours, theirs = (np.array(row.split(","), dtype=float) for row in (ours, theirs))
    assert len(ours) == 2 and abs(ours[0] - ours[1]) > 0.1
    np.testing.assert_allclose(ours, theirs, atol=0.02)
    digits = g.GuidanceKitLoadDigitsDemo()
    guided = classifier_guidance(g, digits, judge, judge.slot(1), 1.0)
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
    empty = g.EmptyLatentImage(width=128, height=128, batch_size=1)
    g.ProbeRead(latent=ksampler(g, guided, latent=empty, positive=null, negative=null), nonce=fresh())
    assert scores()[3] == before


REFUSED = {
    "no projection": ({"kind": "no projection"}, r"lacks its projection \(text_projection\).*SD 1.5 and Flux"),
    "an identity for it": ({"kind": "identity"}, r"lacks its projection \(text_projection\)"),
    "another CLIP": ({"width": 32}, "gives 24 numbers and the text encoder 32.*of different CLIPs"),
    "no CLIP": ({"kind": "no tower"}, "holds no CLIP"),
    "SigLIP": ({"vision": "siglip"}, r"this CLIP vision model \(siglip\) sees pictures alone"),
    "DINO": ({"vision": "dino"}, r"this CLIP vision model \(dinov2\) sees pictures alone"),
    "a long text": ({"text": "word " * 80}, "is longer than the 75 pieces of words"),
    "no label": ({"text": "a face, -"}, "marks without a label"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_towers_that_do_not_pair_are_refused_in_a_sentence(server, name):
    changes, sentence = REFUSED[name]
    with pytest.raises(PromptFailed, match=f"Text References: .*{sentence}"):
        run(server, 1.0, **changes)


def test_an_empty_text_is_refused_before_the_run(server):
    with pytest.raises(PromptRejected, match="Text References: text is empty: write what the picture should be like"):
        run(server, 1.0, " ")
