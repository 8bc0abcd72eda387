"""Classifier Guidance in a real ComfyUI: what it does, at what cost, with masks, batches, video and every guider."""

import numpy as np
import pytest
from graph import (
    GUIDERS,
    Graph,
    all_in_one,
    cfg_combine,
    classifier_guidance,
    custom_sampler,
    fresh,
    ksampler,
    read,
    schedule,
)


def run(server, build, kind="eps", channels=4):
    """The reading of a graph: build(g, model, classifier) gives a latent."""
    g = Graph()
    model = g.ProbeModel(kind=kind, seed=0, nonce=fresh())
    classifier = g.ProbeClassifier(channels=channels, latent_space="", nan_below_log_snr=-1000.0, nonce=fresh())
    node = g.ProbeRead(latent=build(g, model, classifier), model=model, classifier=classifier, nonce=fresh())
    return read(server.run(g.prompt), node)


@pytest.mark.parametrize("kind", ["eps", "v", "flow", "edm"])
def test_term_costs_one_gradient_a_call_and_changes_the_picture(server, kind):
    guided = run(server, lambda g, m, c: ksampler(g, classifier_guidance(g, m, c, "cat", 5.0)), kind)
    plain = run(server, lambda g, m, c: ksampler(g, m), kind)
    assert plain.classifier_calls == []
    assert guided.calls == plain.calls
    assert "LatentEncoder" in guided.loaded  # loaded by ComfyUI, beside the diffusion model
    assert len(guided.classifier_calls) == (len(guided.calls) if kind != "flow" else len(flow_steps(guided)))
    assert np.isfinite(guided.latent).all()
    assert np.abs(guided.latent - plain.latent).max() > 1e-4 * np.abs(plain.latent).max()


def flow_steps(reading):
    """The calls below sigma 0.85, where guidance of a flow model begins unless a schedule says otherwise."""
    return [t for t, _ in reading.calls if t / 1000 <= 0.85]


def test_outside_its_window_the_classifier_is_not_run(server):
    """Two of six steps are inside; heun evaluates the second of them and the one after it twice."""

    def build(sampler):
        def latent(g, m, c):
            window = schedule(g, "interval", "step", start=2 / 5, end=3 / 5)
            return ksampler(g, classifier_guidance(g, m, c, "cat", 5.0, window), sampler=sampler)

        return latent

    assert len(run(server, build("euler")).classifier_calls) == 2
    assert len(run(server, build("heun")).classifier_calls) == 4
    off = run(server, lambda g, m, c: ksampler(g, classifier_guidance(g, m, c, "cat", 0.0)))
    plain = run(server, lambda g, m, c: ksampler(g, m))
    assert off.classifier_calls == []
    assert np.array_equal(off.latent, plain.latent)


def test_two_runs_are_bit_equal(server):
    def build(g, m, c):
        return ksampler(g, classifier_guidance(g, cfg_combine(g, m, 4.0, "rescale", rescale=0.5), c, "cat, -dog", 5.0))

    assert np.array_equal(run(server, build).latent, run(server, build).latent)


@pytest.mark.parametrize("guider", GUIDERS)
def test_term_is_added_after_every_guider(server, guider):
    """A term that acts in the last step alone adds scale * sigma^2 * g there, whatever the guider's own scales."""

    def build(scale):
        def latent(g, m, c):
            last = schedule(g, "interval", "step", start=1.0, end=1.0)
            return custom_sampler(g, classifier_guidance(g, m, c, "cat", scale, last), guider, 5.0, second=m)

        return latent

    off, once, twice = (run(server, build(scale)).latent for scale in (0.0, 40.0, 80.0))
    change = np.abs(once - off).max()
    assert change > 1e-5
    np.testing.assert_allclose(twice - off, 2 * (once - off), atol=1e-5 * np.abs(off).max() + 1e-3 * change)


def test_targets_differ_within_a_batch(server):
    """Each sample of a batch of three with its own target is the sample that a batch under that one target gives."""

    def build(target):
        def latent(g, m, c):
            batch = g.ProbeLatent(batch=3, channels=4, frames=0, masked=False)
            return ksampler(g, classifier_guidance(g, m, c, target, 20.0), latent=batch)

        return latent

    mixed = run(server, build("cat | dog | (bird:0.5), -cat")).latent
    for i, target in enumerate(("cat", "dog", "(bird:0.5), -cat")):
        alone = run(server, build(target)).latent
        np.testing.assert_allclose(mixed[i], alone[i], atol=1e-4 * np.abs(alone).max())
        assert np.abs(alone[(i + 1) % 3] - mixed[(i + 1) % 3]).max() > 1e-4 * np.abs(alone).max()


def test_inpaint_mask_keeps_what_it_protects(server):
    def build(scale):
        def latent(g, m, c):
            masked = g.ProbeLatent(batch=1, channels=4, frames=0, masked=True)
            return ksampler(g, classifier_guidance(g, m, c, "cat", scale), latent=masked)

        return latent

    off, on = run(server, build(0.0)).latent, run(server, build(20.0)).latent
    kept, painted = (..., slice(8, None)), (..., slice(0, 8))
    np.testing.assert_allclose(on[kept], off[kept], atol=1e-5)
    assert np.abs(on[painted] - off[painted]).max() > 1e-4 * np.abs(off).max()


def test_video_latents_are_guided(server):
    def build(scale):
        def latent(g, m, c):
            frames = g.ProbeLatent(batch=2, channels=4, frames=3, masked=False)
            m = cfg_combine(g, classifier_guidance(g, m, c, "cat | dog", scale), 3.0, "rescale", rescale=0.7)
            return ksampler(g, m, latent=frames)

        return latent

    off, on = run(server, build(0.0), "video"), run(server, build(20.0), "video")
    assert on.latent.shape == (2, 4, 3, 16, 16)
    assert np.isfinite(on.latent).all()
    assert len(set(on.classifier_calls)) == len(flow_steps(on)) > 0
    assert np.abs(on.latent - off.latent).max() > 1e-5


def test_terms_stack(server):
    """Two nodes with one target are one node at the sum of their scales."""

    def two(g, m, c):
        return ksampler(g, classifier_guidance(g, classifier_guidance(g, m, c, "cat", 4.0), c, "cat", 6.0))

    stacked = run(server, two)
    one = run(server, lambda g, m, c: ksampler(g, classifier_guidance(g, m, c, "cat", 10.0)))
    assert len(stacked.classifier_calls) == 2 * len(one.classifier_calls)
    np.testing.assert_allclose(stacked.latent, one.latent, atol=1e-4 * np.abs(one.latent).max())


def test_all_in_one_sampler_is_the_two_patches_and_ksampler(server):
    def patches(g, m, c):
        m = classifier_guidance(g, m, c, "cat, -dog", 5.0, entropy_aware=True, max_shift=0.5)
        return ksampler(g, m, 3.0, sampler="dpmpp_2m")

    assert np.array_equal(run(server, all_in_one).latent, run(server, patches).latent)


def test_nodes_say_what_they_did(server):
    """Gradients and the target's log-probability; where guidance of a flow model begins; whose cfg is used."""

    def said(kind, build):
        g = Graph()
        classifier = g.ProbeClassifier(channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=fresh())
        g.ProbeRead(latent=build(g, g.ProbeModel(kind=kind, seed=0, nonce=fresh()), classifier), nonce=fresh())
        return "\n".join(text for texts in server.run(g.prompt).texts.values() for text in texts)

    assert "(6 gradients)." in said("eps", lambda g, m, c: ksampler(g, classifier_guidance(g, m, c, "cat")))
    assert "below sigma 0.85" in said("flow", lambda g, m, c: ksampler(g, classifier_guidance(g, m, c, "cat")))
    assert "strength was 0" in said("eps", lambda g, m, c: ksampler(g, classifier_guidance(g, m, c, "cat", 0.0)))
    assert "12 of 12 passes" in said("eps", all_in_one)
    both = said("eps", lambda g, m, c: all_in_one(g, cfg_combine(g, m, 1.0), c))
    assert "6 of 12 passes, 50 % saved" in both
    assert "CFG Combine on the model sets cfg" in both
