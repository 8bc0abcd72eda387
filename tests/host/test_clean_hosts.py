"""Judges of clean pictures on every kind of model and decoder, and how they stop, unload, halve and refuse."""

import re

import numpy as np
import pytest
import torch
from graph import (
    Graph,
    all_in_one,
    classifier_guidance,
    custom_sampler,
    emptied,
    executed,
    fresh,
    ksampler,
    read,
    said,
    stacked,
)
from safetensors.torch import save_file
from torch.nn import functional as F

from devtools.server import PromptFailed, PromptInterrupted
from devtools.tiny_classifier import MEAN, SIDE, STD, write_classifier

CHANNELS = {"SD15": 4, "SDXL": 4, "SD3": 16, "Flux": 16}
SCALES = {"SD15": 50.0, "SDXL": 5.0, "SD3": 5.0, "Flux": 5.0}  # a random eps network takes away next to no noise
STEPS, BATCH = 5, 2


@pytest.fixture(scope="module", autouse=True)
def vit(server):
    """The network in models/classifiers/vit; an aesthetic head is beside it."""
    (server.base / "models" / "classifiers").mkdir(parents=True, exist_ok=True)
    save_file({"weight": torch.linspace(-1, 1, 24)[None]}, server.base / "models" / "classifiers" / "line.safetensors")
    return write_classifier(server.base / "models" / "classifiers" / "vit")


def steered(g, family, dtype, kind, scale):
    """(the guidance node, the sampled latent, the VAE) of a random model under a judge that sees through the VAE."""
    vae = g.ProbeDecoder(kind=kind, channels=CHANNELS[family], nonce=0)
    model = g.ProbeFamily(family=family, dtype=dtype, nonce=0)
    guided = classifier_guidance(g, model, g.GuidanceKitLoadImageClassifier(folder="vit", vae=vae), "dog", scale)
    empty = g.ProbeLatents(shape=f"{BATCH},{CHANNELS[family]},8,8", level=0.0, seed=5)
    return guided, ksampler(g, guided, steps=STEPS, sampler="euler_ancestral", latent=empty), vae


def shown_in(result, node):
    """The pictures of a PreviewImage node, [B, H, W, 3] in 0 to 255."""
    return np.stack([np.asarray(picture.convert("RGB")) for picture in result.images(node.node)])


def sampled(server, family, dtype, kind, scale):
    """(the latents, the pictures as the host decodes them, what the guidance node said)."""
    g = Graph()
    guided, latent, vae = steered(g, family, dtype, kind, scale)
    node = g.ProbeRead(latent=latent, nonce=fresh())
    pictures = g.PreviewImage(images=g.VAEDecode(samples=latent, vae=vae))
    result = server.run(g.prompt)
    return read(result, node).latent, shown_in(result, pictures), "\n".join(result.texts.get(guided.node, []))


def loss(vit, pictures, label=1):
    """-log p(label) of pictures that the host decoded, by the network itself: nothing of the pack is between."""
    pixels = torch.from_numpy(pictures.copy()).movedim(-1, 1).float() / 255
    pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return -float(vit((pixels - mean) / std).logits.log_softmax(1)[:, label].mean())


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("kind", ["taesd", "full"])
@pytest.mark.parametrize("family", CHANNELS)
def test_it_steers_through_every_decoder(server, vit, family, kind, dtype):
    plain, shown, _ = sampled(server, family, dtype, kind, 0.0)
    towards, shown_towards, told = sampled(server, family, dtype, kind, SCALES[family])
    away, shown_away, _ = sampled(server, family, dtype, kind, -SCALES[family])
    for guided in (towards, away):
        assert np.isfinite(guided).all() and np.abs(guided - plain).max() > 1e-3
    assert loss(vit, shown_towards) < loss(vit, shown) - 0.1 < loss(vit, shown) + 0.1 < loss(vit, shown_away)
    first, last = re.search(r"target ([\d.]+) %.* at the end: ([\d.]+) %", told, re.DOTALL).groups()
    assert float(first) < float(last), "the judged loss falls over the run"
    assert "decoded by the VAE" in told
    assert re.search(r"Judging took [\d.]+ of the time", told), "a number that people can read, above 100 too"


@pytest.mark.parametrize("kind", ["taesd", "full"])
def test_the_same_vae_has_the_same_bits_afterwards(server, kind):
    """One VAE that ComfyUI keeps: its weights, how autograd may use them, and what it decodes."""
    g = Graph()
    vae = g.ProbeDecoder(kind=kind, channels=4, nonce=fresh())
    node = g.ProbeVaeBits(vae=vae, latent=g.ProbeLatents(shape="1,4,8,8", level=0.0, seed=9), nonce=fresh())

    def bits():
        g.prompt[node.node]["inputs"]["nonce"] = fresh()
        result = server.run(g.prompt)
        return result.outputs[node.node]["text"], executed(result)

    before, _ = bits()
    judge = g.GuidanceKitLoadImageClassifier(folder="vit", vae=vae)
    guided = classifier_guidance(g, g.ProbeFamily(family="SD15", dtype="fp32", nonce=0), judge, "dog", 5.0)
    latent = ksampler(g, guided, latent=g.ProbeLatents(shape="2,4,8,8", level=0.0, seed=5))
    g.ProbeRead(latent=latent, nonce=fresh())
    _, ran = bits()
    after, _ = bits()
    assert latent.node in ran and vae.node not in ran
    assert after == before


def watched(g, most=0, interrupt_at=0, nonce=None):
    """A judge of four-channel latents through a full decoder, which counts its calls and can run short of memory.

    Not through a TAESD: at a kink of its ReLUs the rounding of another batch size gives another gradient.
    """
    vae = g.ProbeDecoder(kind="full", channels=4, nonce=0)
    judge = g.GuidanceKitLoadImageClassifier(folder="vit", vae=vae)
    return g.ProbeWatched(classifier=judge, most=most, interrupt_at=interrupt_at, nonce=nonce or fresh())


SAMPLERS = {
    "ksampler": lambda g, m, c: ksampler(g, stacked(g, m, c), sampler="heun", steps=3),
    "guider": lambda g, m, c: custom_sampler(g, stacked(g, m, c), "perp_neg", 4.0, steps=4),
    "all in one": all_in_one,
}


def test_a_sweep_cancelled_in_the_judge_goes_on_with_the_next_picture(server):
    """And says nothing of what the guide thinks of its own work, but asks for a judge."""

    def prompt(interrupt_at):
        g = Graph()
        model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
        sweep = g.GuidanceKitGuidanceSweep(
            model=model,
            classifier=watched(g, interrupt_at=interrupt_at),
            positive=g.ProbeCondition(seed=1),
            negative=g.ProbeCondition(seed=2),
            latent_image=g.ProbeLatents(shape="1,4,8,8", level=0.0, seed=5),
            vae=g.ProbeDecoder(kind="full", channels=4, nonce=0),
            columns={"columns": "classifier scale", "values": "-5, 5"},
            rows={"rows": "nothing"},
            target="dog",
            classifier_scale=1.0,
            **{"seed": 7, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0},
        )
        return g, sweep, g.ProbeRead(latent=sweep.slot(2), nonce=fresh())

    g, _, node = prompt(0)
    whole = read(server.run(g.prompt), node).latent
    assert np.isfinite(whole).all() and np.abs(whole[0] - whole[1]).max() > 1e-3
    g, sweep, node = prompt(interrupt_at=5)
    with pytest.raises(PromptInterrupted):
        server.run(g.prompt)
    again = server.run(g.prompt)
    assert np.array_equal(read(again, node).latent, whole)
    told = again.texts[sweep.node][-1]
    assert "1 of 2 pictures were there from the run that was stopped" in told and "Connect a judge" in told


def test_a_report_of_a_clean_judge_says_whose_view_it_is(server):
    g = Graph()
    guided = classifier_guidance(g, g.ProbeModel(kind="eps", seed=0, nonce=fresh()), watched(g), "dog", 5.0)
    latent = ksampler(g, guided, sampler="euler", steps=3)
    report = g.GuidanceKitGuidanceReport(model=guided, steps=3, scheduler="normal", latent=latent)
    told = "\n".join(server.run(g.prompt).texts[report.node])
    assert "Classifier: scale 5, constant; 3 of 3 steps" in told
    assert "no measure of success" in told and "Judging took" in told and "ancestral or SDE" in told
    assert told.count("its own log p") == 3
    pushes = [float(push) for push in re.findall(r" push (\S+)", told)]
    assert len(pushes) == 3 and f"Push: at most {max(pushes):.2g} times what was still undecided" in told


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_cancelled_sampling_leaves_nothing_behind(server, sampler):
    """Cancel in the model's pass or in the judge's: the same prompt then gives the bits of one never stopped."""

    def prompt(model=0, judge=0):
        g = Graph()
        made = g.ProbeModel(kind="eps", seed=0, nonce=fresh(), interrupt_at=model)
        latent = SAMPLERS[sampler](g, made, watched(g, interrupt_at=judge))
        return g, g.ProbeRead(latent=latent, nonce=fresh())

    g, node = prompt()
    whole = read(server.run(g.prompt), node).latent
    for moment in ({"model": 3}, {"judge": 1}, {"judge": 3}):
        g, node = prompt(**moment)
        with pytest.raises(PromptInterrupted):
            server.run(g.prompt)
        again = server.run(g.prompt)  # on the same MODEL, VAE and judge, which ComfyUI has kept
        kept = {node for node, each in g.prompt.items() if each["class_type"] in ("ProbeModel", "ProbeWatched")}
        assert not kept & executed(again)
        assert np.array_equal(read(again, node).latent, whole), moment


def test_models_unloaded_between_runs(server):
    """After the host has unloaded everything the same MODEL and judge sample the same bits."""

    def latent():
        g = Graph()
        model = g.ProbeModel(kind="eps", seed=0, nonce=-1)
        guided = classifier_guidance(g, model, watched(g, nonce=-1), "dog", 5.0)
        made = ksampler(g, guided, latent=g.ProbeLatent(batch=1, channels=4, frames=0, masked=False, nonce=fresh()))
        node = g.ProbeRead(latent=made, nonce=fresh())
        result = server.run(g.prompt)
        assert made.node in executed(result)
        return g, read(result, node), model.node in executed(result)

    emptied(server, outputs=True)
    g, before, _ = latent()
    assert {"Logits", "AutoencoderKL"} <= set(before.loaded)
    for outputs in (False, True):
        emptied(server, outputs, kept=g)
        g, after, made_anew = latent()
        assert made_anew == outputs
        assert sorted(after.loaded) == sorted(before.loaded)
        assert np.array_equal(before.latent, after.latent)


def short_of_memory(server, most):
    """(the latents, how many pictures each call of the judge saw, all that was said) of five pictures."""
    g = Graph()
    judge = watched(g, most)
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    guided = classifier_guidance(g, model, judge, "cat | -dog | (dog:2)", 5.0)
    latent = ksampler(g, guided, steps=STEPS, latent=g.ProbeLatents(shape="5,4,8,8", level=0.0, seed=5))
    calls = g.ProbeWatchedCalls(classifier=judge, latent=latent, nonce=fresh())
    node = g.ProbeRead(latent=latent, nonce=fresh())
    result = server.run(g.prompt)
    return read(result, node).latent, result.outputs[calls.node]["text"][0], said(result)


@pytest.mark.parametrize(("most", "parts"), [(1, "1,1,1,1,1"), (3, "3,2")])
def test_out_of_memory_in_the_judge_goes_on_in_smaller_batches(server, most, parts):
    """The pictures are those of the whole batch, copies and targets of each included; the size that fits is kept."""
    whole, at_once, silent = short_of_memory(server, 0)
    short, calls, told = short_of_memory(server, most)
    np.testing.assert_allclose(short, whole, atol=1e-4 * np.abs(whole).max())
    assert at_once == ",".join(["5"] * STEPS)
    assert calls == ",".join([parts] * STEPS)
    assert f"Memory did not hold the whole batch: each gradient took {parts.count(',') + 1} passes" in told
    assert "Memory" not in silent


def test_memory_too_small_for_one_picture_is_a_sentence(server):
    with pytest.raises(PromptFailed, match="Classifier Guidance: memory ran out in the classifier's gradient.*smaller"):
        short_of_memory(server, -1)
    assert np.isfinite(short_of_memory(server, 0)[0]).all()


JUDGES = {
    "preview": lambda g, **vae: g.GuidanceKitLoadImageClassifier(folder="vit", **vae),
    "decoder": lambda g: g.GuidanceKitLoadImageClassifier(
        folder="vit", vae=g.ProbeDecoder(kind="taesd", channels=16, nonce=0)
    ),
    "references": lambda g, **vae: g.GuidanceKitImageReferences(
        clip_vision=g.ProbeVision(kind="clip", nonce=0),
        images=g.EmptyImage(width=32, height=32, batch_size=1, color=255),
        **vae,
    ),
    "texts": lambda g, **vae: g.GuidanceKitTextReferences(
        clip_vision=g.ProbeVision(kind="clip", nonce=0),
        clip=g.ProbeTextTower(kind="whole", width=24, nonce=0),
        text="a smiling face",
        **vae,
    ),
    "score": lambda g, **vae: g.GuidanceKitLoadAestheticHead(
        file="line.safetensors", clip_vision=g.ProbeVision(kind="clip", nonce=0), **vae
    ),
}
TARGETS = {"references": "reference", "texts": "a smiling face", "score": "score"}  # of the others: cat


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("frames", [1, 2])
def test_latents_of_five_dimensions_are_refused(server, judge, frames):
    """A Wan-shaped model, of one frame too: the sentence says why and what to use."""
    g = Graph()
    model = g.ProbeFamily(family="Wan21", dtype="fp32", nonce=fresh())
    latent = g.ProbeLatents(shape=f"1,16,{frames},8,8", level=0.0, seed=5)
    guided = classifier_guidance(g, model, JUDGES[judge](g), TARGETS.get(judge, "cat"))
    g.ProbeRead(latent=ksampler(g, guided, latent=latent), nonce=fresh())
    sentence = "Classifier Guidance: the classifier judges single pictures.*Wan21.*use a model of pictures"
    with pytest.raises(PromptFailed, match=sentence):
        server.run(g.prompt)


@pytest.mark.parametrize(
    ("judge", "family", "dtype"), [("references", "SDXL", "fp16"), ("score", "SD3", "bf16"), ("texts", "Flux", "fp32")]
)
def test_every_kind_of_judge_steers_towards_and_away(server, judge, family, dtype):
    def run(scale):
        g = Graph()
        vae = g.ProbeDecoder(kind="taesd", channels=CHANNELS[family], nonce=0)
        model = g.ProbeFamily(family=family, dtype=dtype, nonce=0)
        guided = classifier_guidance(g, model, JUDGES[judge](g, vae=vae), TARGETS[judge], scale)
        empty = g.ProbeLatents(shape=f"1,{CHANNELS[family]},8,8", level=0.0, seed=5)
        latent = ksampler(g, guided, steps=STEPS, sampler="euler_ancestral", latent=empty)
        node = g.ProbeRead(latent=latent, nonce=fresh())
        result = server.run(g.prompt)
        told = "\n".join(result.texts[guided.node])
        return read(result, node).latent, float(re.search(r"score at the end: ([-.\d]+)", told)[1])

    (towards, high), (away, low) = run(2.0), run(-2.0)
    assert np.isfinite(towards).all() and np.isfinite(away).all()
    assert high > low
