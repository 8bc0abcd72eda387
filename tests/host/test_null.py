"""Null conditions made in the graph: learned by a model that back-propagates, the mean of many, kept as a file."""

import numpy as np
import pytest
import torch
from graph import Graph, fresh, ksampler, read, said

from devtools.server import PromptFailed
from guidance_core.demo import emoji
from guidance_core.null import load_null_condition

LEARN = {"steps": 12, "batch": 8, "learning_rate": 0.1, "seed": 0}


def classes(g, model, names):
    return g.GuidanceKitClassCondition(model=model, label=" | ".join(names))


def learn(g, model, begin, latents):
    return g.GuidanceKitLearnNullCondition(model=model, begin=begin, latents=latents, **LEARN)


def sampled(g, model, positive, count, negative=None, cfg=1.0):
    latent = g.EmptyLatentImage(width=64, height=64, batch_size=count)
    return ksampler(g, model, cfg, steps=4, latent=latent, positive=positive, negative=negative or positive)


def test_a_null_condition_is_learned_kept_and_guides_and_the_model_stays_as_it_is(server):
    labels = emoji.load().labels
    g = Graph()
    demo = g.GuidanceKitLoadEmojiDemo()
    every = classes(g, demo, labels)
    pictures = sampled(g, demo, every, len(labels))
    begin = classes(g, demo, ["face"])
    null = learn(g, demo, begin, pictures)
    g.GuidanceKitSaveNullCondition(conditioning=null, name="emoji/learned", replace=True)
    by_it = g.ProbeRead(latent=sampled(g, demo, every, len(labels), null, 3.0), nonce=fresh())
    by_face = g.ProbeRead(latent=sampled(g, demo, every, len(labels), begin, 3.0), nonce=fresh())
    plain = g.ProbeRead(latent=pictures, nonce=fresh())
    result = server.run(g.prompt)
    assert "less loss than where it began" in said(result)
    assert "Saved as emoji/learned.safetensors. Press R" in said(result)

    h = Graph()
    demo = h.GuidanceKitLoadEmojiDemo()
    every = classes(h, demo, labels)
    kept = h.GuidanceKitNullConditionEncoder(kind={"kind": "learned", "file": "emoji/learned.safetensors"})
    again = h.ProbeRead(latent=sampled(h, demo, every, len(labels), kept, 3.0), nonce=fresh())
    as_before = h.ProbeRead(latent=sampled(h, demo, every, len(labels)), nonce=fresh())
    second = server.run(h.prompt)
    np.testing.assert_array_equal(read(second, again).latent, read(result, by_it).latent)
    np.testing.assert_array_equal(read(second, as_before).latent, read(result, plain).latent)
    assert np.abs(read(result, by_it).latent - read(result, by_face).latent).mean() > 1e-3


def test_the_mean_of_many_conditions_is_kept(server):
    g = Graph()
    demo = g.GuidanceKitLoadEmojiDemo()
    joined = g.ConditioningCombine(
        conditioning_1=classes(g, demo, ["face"]), conditioning_2=classes(g, demo, ["heart", "clock"])
    )
    for name in ("mean of three", "mean of three.safetensors"):
        g.GuidanceKitSaveNullCondition(conditioning=joined, name=name, replace=False)
    result = server.run(g.prompt)
    assert "Saved as mean of three.safetensors, the mean of 3." in said(result)
    assert "mean of three 2.safetensors" in said(result)
    d = emoji.load()
    rows = d.network.context(torch.tensor([d.labels.index(name) for name in ("face", "heart", "clock")]))
    null = load_null_condition(server.base / "models" / "null_conditions" / "mean of three.safetensors")
    torch.testing.assert_close(null.cond, rows.mean(0, keepdim=True))
    assert null.pooled is None


REFUSED = {
    "latents of another model": (
        lambda g: learn(
            g,
            demo := g.GuidanceKitLoadEmojiDemo(),
            classes(g, demo, ["face"]),
            g.ProbeLatent(batch=1, channels=16, frames=0, masked=False),
        ),
        "Learn Null Condition: the latents have 16 channels, this model has 4",
    ),
    "no embedding": (
        lambda g: g.GuidanceKitSaveNullCondition(
            conditioning=g.GuidanceKitNullConditionEncoder(kind={"kind": "none"}), name="none", replace=False
        ),
        "Save Null Condition: this condition has no embedding",
    ),
    "another folder": (
        lambda g: g.GuidanceKitSaveNullCondition(
            conditioning=classes(g, g.GuidanceKitLoadEmojiDemo(), ["face"]), name="../face", replace=False
        ),
        "Save Null Condition: '../face'",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_learned_or_kept_is_refused_in_a_sentence(server, what):
    graph, sentence = REFUSED[what]
    g = Graph()
    made = graph(g)
    if "Learn" in sentence:
        g.GuidanceKitSaveNullCondition(conditioning=made, name="never", replace=False)
    with pytest.raises(PromptFailed) as failed:
        server.run(g.prompt)
    assert failed.value.exception_message.startswith(sentence)
