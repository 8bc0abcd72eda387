"""Memory in a real ComfyUI: when it runs out, when models are unloaded, and over many runs."""

import json

import numpy as np
import pytest
from graph import (
    SIZE,
    Graph,
    all_in_one,
    cfg_combine,
    classifier_guidance,
    custom_sampler,
    emptied,
    executed,
    fresh,
    ksampler,
    read,
    said,
    schedule,
)

from devtools.server import PromptFailed


def of_memory(g, most):
    """A classifier for which memory holds `most` samples: 0 is any number, -1 none."""
    return g.ProbeClassifier(channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=fresh(), most=most)


def guided(g, model, classifier, batch=5):
    latent = g.ProbeLatent(batch=batch, channels=4, frames=0, masked=False)
    return ksampler(g, classifier_guidance(g, model, classifier, "cat | -dog | (bird:2)", 20.0), latent=latent)


def run(server, build, most):
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    classifier = of_memory(g, most)
    node = g.ProbeRead(latent=build(g, model, classifier), model=model, classifier=classifier, nonce=fresh())
    result = server.run(g.prompt)
    return read(result, node), said(result)


@pytest.mark.parametrize("most", [1, 3])
def test_out_of_memory_in_the_gradient_goes_on_in_smaller_batches(server, most):
    """The picture is that of the whole batch, and after the first step the size that fits is known."""
    (whole, silent), (short, said) = run(server, guided, 0), run(server, guided, most)
    np.testing.assert_allclose(short.latent, whole.latent, atol=1e-4 * np.abs(whole.latent).max())
    parts = {1: 5, 3: 2}[most]
    assert len(whole.classifier_calls) == 6
    assert len(short.classifier_calls) == 6 * parts
    assert short.calls == whole.calls
    assert f"Memory did not hold the whole batch: each gradient took {parts} passes" in said
    assert "Memory" not in silent


@pytest.mark.parametrize(
    ("build", "title"), [(guided, "Classifier Guidance"), (all_in_one, "Classifier Guidance Sampler")]
)
def test_memory_too_small_for_one_picture_is_a_sentence(server, build, title):
    g = Graph()
    g.ProbeRead(latent=build(g, g.ProbeModel(kind="eps", seed=0, nonce=fresh()), of_memory(g, -1)), nonce=fresh())
    with pytest.raises(PromptFailed) as caught:
        server.run(g.prompt)
    assert caught.value.exception_message.startswith(f"{title}: memory ran out in the classifier's gradient")
    assert "smaller" in caught.value.exception_message
    assert np.isfinite(run(server, guided, 0)[0].latent).all()


@pytest.mark.parametrize("guider", ["cfg", "dual_model"])
def test_models_unloaded_between_runs(server, guider):
    """After the host has unloaded everything the same MODEL samples the same bits."""

    def latent(seed):
        g = Graph()
        model = g.ProbeModel(kind="eps", seed=0, nonce=-1)
        classifier = g.ProbeClassifier(channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=-1)
        weak = g.ProbeModel(kind="eps", seed=3, nonce=-1)
        patched = cfg_combine(g, model, 4.0, "autoguidance", weak=weak)
        patched = classifier_guidance(g, patched, classifier, "cat", 5.0)
        again = g.ProbeLatent(batch=1, channels=4, frames=0, masked=False, nonce=seed)
        second = g.ProbeModel(kind="eps", seed=5, nonce=-1)
        sampled = custom_sampler(g, patched, guider, 4.0, second=second, latent=again)
        loaded = g.ProbeRead(latent=sampled, model=model, classifier=classifier, nonce=seed)
        result = server.run(g.prompt)
        assert sampled.node in executed(result)
        return g, read(result, loaded), model.node in executed(result)

    emptied(server, outputs=True)
    g, before, _ = latent(fresh())
    assert "LatentEncoder" in before.loaded
    for outputs in (False, True):
        emptied(server, outputs, kept=g)
        g, after, made_anew = latent(fresh())
        assert made_anew == outputs
        assert sorted(after.loaded) == sorted(before.loaded)
        assert np.array_equal(before.latent, after.latent)


RUNS = 120
GROWTH = 24 * 2**20
"""Bytes that 100 runs may add: the host itself keeps each prompt's history, and the allocator its arenas; a run's own
latents, events and gradients would be more than this if each run kept them (see test)."""


@pytest.mark.slow
def test_a_hundred_runs_do_not_grow(server):
    """Digits with both kinds of guidance and another seed each time; what lives after run 20 lives after run 120."""

    def objects():
        g = Graph()
        node = g.ProbeObjects(nonce=fresh())
        return json.loads(server.run(g.prompt).outputs[node.node]["text"][0])

    def sample(seed):
        g = Graph()
        digits = g.GuidanceKitLoadDigitsDemo()
        null = g.GuidanceKitNullConditionEncoder(model=digits, kind={"kind": "class null label"})
        seven = g.GuidanceKitClassCondition(model=digits, label="seven")
        model = cfg_combine(
            g, digits, 3.0, "apg", schedule(g, "linear", low=0.3), eta=0.3, norm_threshold=5.0, momentum=-0.5
        )
        model = classifier_guidance(g, model, digits.slot(2), "seven", 2.0)
        latent = g.EmptyLatentImage(width=SIZE, height=SIZE, batch_size=4)
        sampled = ksampler(g, model, steps=4, latent=latent, positive=seven, negative=null, seed=seed)
        g.ProbeRead(latent=sampled, nonce=seed)
        server.run(g.prompt)

    counted = []
    for seed in range(RUNS):
        sample(seed)
        if seed + 1 in (20, RUNS):
            counted.append(objects())
    before, after = counted
    assert after["RunReport"] > 0 and after["PartEvent"] > 0  # the journal's last runs are kept, and no more
    for kind in ("HostRun", "TermRun", "PipelineRun", "RunReport", "CfgEvent", "PartEvent", "ModelPatcher"):
        assert after[kind] <= before[kind], f"{kind}: {before[kind]} after 20 runs, {after[kind]} after {RUNS}"
    assert after["Tensor"] - before["Tensor"] < RUNS / 2
    assert after["resident"] - before["resident"] < GROWTH
