"""The first graph from an empty canvas: what the loaders give fits, and what does not fit is said."""

import pytest
import torch
from graph import SIZE, Graph, folder, fresh, guided_digits, read, said

from devtools.server import PromptFailed
from guidance_core import demo

SEVEN, COUNT = 7, 8


def first_graph(g: Graph, latent=None, **changes):
    """(the loader, the sampler): a condition for nothing, no negative, and hardly a widget touched."""
    digits = g.GuidanceKitLoadDigitsDemo()
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "auto"}, model=digits)
    sampler = guided_digits(g, digits, None, positive=null, **changes)
    inputs = g.prompt[sampler.node]["inputs"]
    del inputs["negative"]
    inputs["latent_image"] = latent or digits.slot(3)
    return digits, sampler


def probed(g: Graph, latent):
    return g.ProbeRead(latent=latent, nonce=fresh())


def many(g: Graph, digits):
    return g.RepeatLatentBatch(samples=digits.slot(3), amount=COUNT)


@pytest.mark.parametrize(("classifier", "sampler"), [(2, "euler"), (4, "euler_ancestral")], ids=["noisy", "clean"])
def test_it_gives_what_was_asked_for(server, classifier, sampler):
    g = Graph()
    digits, guided = first_graph(g, steps=20, classifier_scale=2.0, sampler_name=sampler)
    inputs = g.prompt[guided.node]["inputs"]
    inputs |= {"latent_image": many(g, digits), "classifier": digits.slot(classifier)}
    reader = probed(g, guided)
    result = server.run(g.prompt)
    drawn = demo.load()
    images = drawn.to_image(torch.tensor(read(result, reader).latent))
    assert images.shape == (COUNT, 16, 16)
    assert drawn.judge.accuracy(images, torch.full((COUNT,), SEVEN)) >= 0.75
    assert "Sampled at" not in said(result)


@pytest.mark.parametrize(("loader", "latent", "side"), [("LoadDigitsDemo", 3, 128), ("LoadEmojiDemo", 5, 64)])
def test_another_size_is_told(server, loader, latent, side):
    for own in (False, True):
        g = Graph()
        model = getattr(g, f"GuidanceKit{loader}")()
        null = g.GuidanceKitNullConditionEncoder(kind={"kind": "auto"}, model=model)
        given = model.slot(latent) if own else g.EmptyLatentImage(width=512, height=256, batch_size=1)
        how = {"steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0, "seed": fresh()}
        probed(g, g.KSampler(model=model, positive=null, negative=null, latent_image=given, **how))
        told = server.run(g.prompt).texts.get(model.node, [])
        wanted = (
            [] if own else [f"Sampled at 512 x 256 pixels: this model makes {side} x {side}, and scribbles at others."]
        )
        assert [text.partition(" Connect")[0] for text in told] == wanted


def test_the_sampler_says_so_too(server):
    g = Graph()
    _, guided = first_graph(g, latent=g.EmptyLatentImage(width=512, height=512, batch_size=1), seed=fresh())
    probed(g, guided)
    assert server.run(g.prompt).texts[guided.node][-1].startswith("Sampled at 512 x 512 pixels: this model makes 128 x")


def test_cfg_without_a_negative_is_refused(server):
    g = Graph()
    _, guided = first_graph(g, cfg=3.0)
    probed(g, guided)
    with pytest.raises(PromptFailed, match="CFG at scale 3 leads away from a negative, and none is connected"):
        server.run(g.prompt)


def test_auto_takes_what_fits(server):
    """A class-conditional model before a text encoder, that before a condition to take the shape from."""
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    asked = g.GuidanceKitClassCondition(model=digits, label="seven")
    by_model = g.GuidanceKitNullConditionEncoder(kind={"kind": "auto"}, model=digits, like=asked)
    by_like = g.GuidanceKitNullConditionEncoder(kind={"kind": "auto"}, like=asked)
    for null in (by_model, by_like):
        probed(g, guided_digits(g, digits, null, seed=fresh()))
    texts = server.run(g.prompt).texts
    assert [texts[null.node][-1].split(":")[0] for null in (by_model, by_like)] == ["class null label", "zeros"]

    alone = Graph()
    digits = alone.GuidanceKitLoadDigitsDemo()
    probed(alone, guided_digits(alone, digits, alone.GuidanceKitNullConditionEncoder(kind={"kind": "auto"})))
    with pytest.raises(PromptFailed, match="connect the text encoder to clip, or a class-conditional model to model"):
        server.run(alone.prompt)


def test_a_folder_that_says_nothing_has_its_name_as_label(server):
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    three = folder(g, digits, "digits demo/three")
    seven = folder(g, digits, "digits demo/seven", examples=three)
    g.PreviewAny(source=seven)
    texts = server.run(g.prompt).texts
    assert texts[three.node][-1] == "40 three"
    assert texts[seven.node][-1] == "40 three, 40 seven\nThis folder: 40 seven"


def test_sizes_are_told_in_pixels(server):
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    small = folder(g, digits, "digits demo/three")
    g.prompt[small.node]["inputs"]["width"] = 2 * SIZE
    g.PreviewAny(source=folder(g, digits, "digits demo/seven", examples=small))
    with pytest.raises(PromptFailed, match="got 256 x 128 pixels and 128 x 128 pixels"):
        server.run(g.prompt)
