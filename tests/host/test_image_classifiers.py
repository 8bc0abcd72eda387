"""Image classifiers off the shelf in a real ComfyUI: what they steer, what they leave alone, and bad folders."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from graph import GUIDERS, Graph, classifier_guidance, custom_sampler, fresh, ksampler, read, schedule
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from devtools.server import PromptFailed, PromptRejected
from devtools.tiny_classifier import MEAN, SIDE, STD, write_classifier
from guidance_core.demo.pictures import INK, PAPER, tones


@pytest.fixture(scope="module")
def folder(server):
    """models/classifiers/vit."""
    return server.base / "models" / "classifiers" / "vit"


@pytest.fixture(scope="module", autouse=True)
def vit(folder):
    """The network that is in it."""
    return write_classifier(folder)


def log_prob(vit, x0, label=1):
    """log p(label) of digits' latents, seen through the digits' own VAE."""
    paper, ink = (torch.tensor(colour).reshape(1, 3, 1, 1) for colour in (PAPER, INK))
    pictures = paper + tones(torch.from_numpy(x0.copy())) * (ink - paper)
    pictures = F.interpolate(pictures, (SIDE, SIDE), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return float(vit((pictures - mean) / std).logits.log_softmax(1)[:, label].mean())


def digits_run(server, scale=None, vae=True, sampler="euler_ancestral", **options):
    """(the latent, what the guidance node said) of digits under a picture classifier; scale None is unguided."""
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    judge = g.GuidanceKitLoadImageClassifier(folder="vit", **({"vae": digits.slot(1)} if vae else {}))
    model = digits if scale is None else classifier_guidance(g, digits, judge, "dog", scale, **options)
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
    empty = g.EmptyLatentImage(width=128, height=128, batch_size=4)
    latent = ksampler(g, model, steps=10, sampler=sampler, latent=empty, positive=null, negative=null)
    node = g.ProbeRead(latent=latent, nonce=fresh())
    result = server.run(g.prompt)
    return read(result, node).latent, "\n".join(result.texts.get(model.node, []))


def test_a_classifier_of_pictures_steers_what_it_never_saw_noisy(server, folder, vit):
    """Towards its label at a scale, away from it below 0; the same again to the bit."""
    plain, _ = digits_run(server)
    towards, said = digits_run(server, 50.0)
    away, _ = digits_run(server, -50.0)
    assert np.isfinite(towards).all() and np.isfinite(away).all()
    assert log_prob(vit, away) < log_prob(vit, plain) - 0.1 < log_prob(vit, plain) + 0.1 < log_prob(vit, towards)
    assert "10 gradients" in said and "decoded by the VAE" in said
    again, _ = digits_run(server, 50.0)
    assert np.array_equal(again, towards)


def test_the_node_says_what_judging_cost_and_which_sampler_suits_it(server, folder):
    """Its share of time at the steps where it acted; the guide's own belief as no more than that."""
    _, ode = digits_run(server, 50.0, sampler="dpmpp_2m")
    _, ancestral = digits_run(server, 50.0)
    _, off = digits_run(server, 0.0)
    for said in (ode, ancestral):
        assert "in the guide's own eyes target" in said and "no measure of success" in said
        cost = re.search(r"Judging took (\S+) of the time of the model's own passes \(median of 10 steps\)", said)
        assert float(cost[1]) > 0
    assert "an ancestral or SDE one suits" in ode and "SDE" not in ancestral
    assert "Judging took" not in off


def test_without_a_vae_it_sees_the_previews_colours(server, folder):
    plain, _ = digits_run(server)
    guided, said = digits_run(server, 50.0, vae=False)
    assert np.isfinite(guided).all() and not np.allclose(guided, plain)
    assert "rough colours" in said


def test_the_vae_gives_the_same_bits_afterwards(server, folder):
    def decoded(guide):
        g = Graph()
        digits = g.GuidanceKitLoadDigitsDemo()
        if guide:
            judge = g.GuidanceKitLoadImageClassifier(folder="vit", vae=digits.slot(1))
            latent = ksampler(
                g, classifier_guidance(g, digits, judge, "dog", 9.0), latent=_empty(g), **_null(g, digits)
            )
            g.ProbeRead(latent=latent, nonce=fresh())
            server.run(g.prompt)
        picture = g.PreviewImage(
            images=g.VAEDecode(samples=g.ProbeLatents(shape="1,1,16,16", level=0.0, seed=5), vae=digits.slot(1))
        )
        return np.asarray(server.run(g.prompt).images(picture.node)[0])

    assert np.array_equal(decoded(True), decoded(False))


def _empty(g):
    return g.EmptyLatentImage(width=128, height=128, batch_size=1)


def _null(g, digits):
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
    return {"positive": null, "negative": null}


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("family", ["SD15", "Flux"])
def test_every_kind_of_picture_model_is_steered(server, folder, family, dtype):
    """Flow models from the first step on, without a window; in half precision too."""
    latents = []
    for scale in (0.0, 30.0):
        g = Graph()
        model = g.ProbeFamily(family=family, dtype=dtype, nonce=fresh())
        judge = g.GuidanceKitLoadImageClassifier(folder="vit")
        latent = g.ProbeLatents(shape=f"2,{16 if family == 'Flux' else 4},16,16", level=0.0, seed=5)
        node = g.ProbeRead(
            latent=ksampler(g, classifier_guidance(g, model, judge, "cat, -dog", scale), latent=latent), nonce=fresh()
        )
        result = server.run(g.prompt)
        latents.append(read(result, node).latent)
    assert np.isfinite(latents[1]).all()
    assert np.abs(latents[1] - latents[0]).max() > 1e-3


@pytest.mark.parametrize("guider", GUIDERS)
def test_it_is_added_after_every_guider(server, folder, guider):
    """In the last step alone: scale times the same push, whatever the guider's own scales."""

    def latent(scale):
        g = Graph()
        model = g.ProbeFamily(family="SD15", dtype="fp32", nonce=fresh())
        last = schedule(g, "interval", "step", start=1.0, end=1.0)
        guided = classifier_guidance(g, model, g.GuidanceKitLoadImageClassifier(folder="vit"), "cat", scale, last)
        empty = g.ProbeLatents(shape="2,4,16,16", level=0.0, seed=5)
        sampled = custom_sampler(g, guided, guider, 5.0, second=model, latent=empty)
        node = g.ProbeRead(latent=sampled, nonce=fresh())
        return read(server.run(g.prompt), node).latent

    off, once, twice = (latent(scale) for scale in (0.0, 40.0, 80.0))
    change = np.abs(once - off).max()
    assert change > 1e-5
    np.testing.assert_allclose(twice - off, 2 * (once - off), atol=1e-5 * np.abs(off).max() + 1e-3 * change)


def test_a_vae_of_another_model_is_refused(server, folder):
    g = Graph()
    model = g.ProbeFamily(family="SD15", dtype="fp32", nonce=fresh())
    judge = g.GuidanceKitLoadImageClassifier(folder="vit", vae=g.GuidanceKitLoadDigitsDemo().slot(1))
    g.ProbeRead(latent=ksampler(g, classifier_guidance(g, model, judge, "cat")), nonce=fresh())
    with pytest.raises(PromptFailed, match="VAE decodes 1 channels, this model has 4.*this model's own VAE"):
        server.run(g.prompt)


def test_an_unknown_label_is_told_with_those_near_it(server, folder):
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    guided = classifier_guidance(g, digits, g.GuidanceKitLoadImageClassifier(folder="vit"), "dgo")
    g.ProbeRead(latent=ksampler(g, guided, latent=_empty(g), **_null(g, digits)), nonce=fresh())
    with pytest.raises(PromptFailed, match="Classifier Guidance: .*dgo.*dog"):
        server.run(g.prompt)


def changed(name, **entries):
    """A change of one of a folder's JSON files: entries set, or removed where None."""

    def change(folder):
        file = folder / name
        said = json.loads(file.read_text()) | entries
        file.write_text(json.dumps({key: value for key, value in said.items() if value is not None}))

    return change


def as_pickle(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without_head(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "classifier" not in k}, folder / "model.safetensors", {"format": "pt"}
    )


BAD = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "no preprocessor": (lambda f: (f / "preprocessor_config.json").unlink(), "has no preprocessor_config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "pickle": (as_pickle, "has its weights in 'pytorch_model.bin', and only model.safetensors is read"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json that is not JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "config.json that describes nothing"),
    "remote code": (changed("config.json", auto_map={"AutoConfig": "evil.Config"}), "asks for code of its own"),
    "quantised": (changed("config.json", quantization_config={"bits": 4}), "is quantised"),
    "no labels": (changed("config.json", id2label={}), "names no labels"),
    "many labels": (changed("config.json", id2label={str(i): f"l{i}" for i in range(100_000)}), "has 100000 labels"),
    "gaps": (changed("config.json", id2label={"0": "a", "7": "b"}), "does not number its labels"),
    "hostile": (changed("config.json", id2label={"0": "a\x1b[31m", "1": "b", "2": "c"}), "labels must not hold"),
    "long": (changed("config.json", id2label={"0": "a" * 300, "1": "b", "2": "c"}), "a label that is no name of up to"),
    "sizes": (changed("config.json", hidden_size=64), "cannot be read as an image classifier"),
    "unknown kind": (changed("config.json", model_type="no such"), "cannot be read as an image classifier"),
    "another task": (without_head, "lacks weights that its config.json describes"),
    "problem": (changed("config.json", problem_type="chess"), "a problem that is not known here"),
    "mean": (changed("preprocessor_config.json", image_mean=[1, 2]), "no mean and deviation"),
    "deviation": (changed("preprocessor_config.json", image_std=0.0), "a deviation of colours that is not above 0"),
    "size": (changed("preprocessor_config.json", size=10**9), "no size of pictures"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_told_in_a_sentence(server, folder, name):
    change, sentence = BAD[name]
    bad = folder.with_name("bad")
    shutil.rmtree(bad, ignore_errors=True)
    shutil.copytree(folder, bad)
    change(bad)
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    judge = g.GuidanceKitLoadImageClassifier(folder="bad")
    guided = classifier_guidance(g, digits, judge, "cat")
    g.ProbeRead(latent=ksampler(g, guided, latent=_empty(g), **_null(g, digits)), nonce=fresh())
    with pytest.raises((PromptFailed, PromptRejected), match=f"Load Image Classifier: 'bad' .*{sentence}"):
        server.run(g.prompt)


@pytest.mark.parametrize("name", ["../vit", "none", "/etc", "..", "", "x" * 5000, "a\0b", "🦊"])
def test_a_folder_that_is_not_there_is_told(server, folder, name):
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    guided = classifier_guidance(g, digits, g.GuidanceKitLoadImageClassifier(folder=name), "cat")
    g.ProbeRead(latent=ksampler(g, guided, latent=_empty(g), **_null(g, digits)), nonce=fresh())
    with pytest.raises(PromptRejected, match="there is no folder"):
        server.run(g.prompt)
