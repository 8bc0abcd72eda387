"""The passes that nodes tell of are those that reached the network, whatever else is on the MODEL."""

import re

import numpy as np
import pytest
from graph import (
    Graph,
    cfg_combine,
    classifier_guidance,
    custom_sampler,
    fresh,
    ksampler,
    read,
    said,
    schedule,
    self_guidance,
    weakened,
)

SCALE = 5.5
STEPS = 12


def run(server, build, kind="eps"):
    """The reading of build(g, model, classifier), and what was said."""
    g = Graph()
    model = g.ProbeModel(kind=kind, seed=0, nonce=fresh())
    judge = g.ProbeClassifier(channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=fresh())
    node = g.ProbeRead(latent=build(g, model, judge), model=model, classifier=judge, nonce=fresh())
    result = server.run(g.prompt)
    return read(result, node), said(result)


def told(text) -> tuple[int, int]:
    """(passes run, passes without leaving any out), as the node says them at the end."""
    (found,) = re.findall(r"CFG: scale .*?; (\d+) of (\d+) passes", text)
    return int(found[0]), int(found[1])


CACHES = {
    name: lambda g, m, name=name: getattr(g, name)(
        model=m, reuse_threshold=3.0, start_percent=0.0, end_percent=1.0, verbose=False
    )
    for name in ("EasyCache", "LazyCache")
}


@pytest.mark.parametrize("cache", CACHES)
def test_a_step_cache_before_our_nodes_or_behind_them(server, cache):
    """Only what ran is counted; the classifier acts at every step, and the order of wiring does not matter."""

    def build(before):
        def latent(g, m, judge):
            m = CACHES[cache](g, m) if before else m
            m = classifier_guidance(g, cfg_combine(g, m, SCALE), judge, "cat", 20.0)
            return ksampler(g, m if before else CACHES[cache](g, m), 1.0, STEPS)

        return latent

    (one, first), (two, second) = run(server, build(True)), run(server, build(False))
    assert np.array_equal(one.latent, two.latent)
    for reading, text in ((one, first), (two, second)):
        assert 0 < reading.passes < STEPS
        assert told(text) == (reading.passes, 2 * STEPS)
        idle = STEPS - len(reading.calls)
        assert f"At {idle} of {STEPS} calls a step cache of another node filled in" in text
        assert len(reading.classifier_calls) == STEPS and f"{STEPS} gradients" in text


@pytest.mark.parametrize("hook", ["PerturbedAttentionGuidance", "SelfAttentionGuidance"])
def test_passes_that_hooks_run_for_themselves_are_told_apart(server, hook):
    def build(g, m, judge):
        options = {"scale": 3.0} | ({"blur_sigma": 2.0} if hook.startswith("Self") else {})
        return ksampler(g, cfg_combine(g, getattr(g, hook)(model=m, **options), SCALE), 1.0, STEPS)

    reading, text = run(server, build)
    assert reading.passes == 3 * STEPS
    assert told(text) == (2 * STEPS, 2 * STEPS)
    assert f"Hooks of other nodes ran {STEPS} more: {hook} {STEPS}." in text


def test_skipped_layers_of_another_node_are_told_apart_and_named(server):
    """ComfyUI's own runs its pass in a window of its own, beside our self-guidance, which runs one at every step."""
    g = Graph()
    m = g.ProbeTransformer(family="SD3", dtype="fp32", nonce=fresh())
    window = {"start_percent": 0.0, "end_percent": 0.5, "rescaling_scale": 0.0}
    other = g.SkipLayerGuidanceDiT(model=m, double_layers="1", single_layers="", scale=2.0, **window)
    guided = self_guidance(g, cfg_combine(g, other, SCALE), weakened(g, m, "token_perturbation"), 1.0)
    done = ksampler(g, guided, 1.0, 4, latent=g.ProbeLatents(shape="1,16,8,8", level=0.0, seed=5))
    node = g.ProbeRead(latent=done, model=m, nonce=fresh())
    report = g.GuidanceKitGuidanceReport(model=guided, steps=4, scheduler="normal", latent=done)
    result = server.run(g.prompt)
    text = said(result)
    *_, ran = re.findall(r"Hooks of other nodes ran (\d) more: SkipLayerGuidanceDiT \1\.", text)
    assert 0 < int(ran) < 4 and "; 8 of 8 passes" in text and "Weakened passes run: 4." in text
    assert read(result, node).passes == 8 + int(ran) + 4
    assert "SkipLayerGuidanceDiT" in result.outputs[report.node]["text"][0]


def test_a_default_condition_that_is_covered_is_no_pass(server):
    def build(covered):
        def latent(g, m, judge):
            mask = g.SolidMask(value=1.0 if covered else 0.4, width=128, height=128)
            part = g.ConditioningSetMask(
                conditioning=g.ProbeCondition(seed=1), mask=mask, strength=1.0, set_cond_area="default"
            )
            both = g.ConditioningSetDefaultCombine(cond=part, cond_DEFAULT=g.ProbeCondition(seed=4))
            window = schedule(g, "interval", "step", start=0.0, end=5 / 11)
            return ksampler(g, cfg_combine(g, m, SCALE, schedule=window), 1.0, STEPS, negative=both)

        return latent

    for covered, parts in ((True, 1), (False, 2)):
        reading, text = run(server, build(covered))
        assert reading.passes == STEPS + parts * STEPS // 2
        assert told(text) == (reading.passes, STEPS + parts * STEPS)


def test_context_windows_are_passes_each(server):
    def build(g, m, judge):
        window = schedule(g, "interval", "step", start=0.0, end=0.4)
        video = g.ProbeLatent(batch=1, channels=4, frames=9, masked=False)
        return ksampler(g, windowed(g, cfg_combine(g, m, SCALE, schedule=window)), 1.0, 6, latent=video)

    reading, text = run(server, build, "video")
    assert reading.passes == 3 * (6 + 3)
    assert told(text) == (reading.passes, 3 * 12)


def windowed(g, m, causal=True):
    """Three windows of five frames out of nine."""
    return g.ContextWindowsManual(
        model=m,
        context_length=5,
        context_overlap=3,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
        dim=2,
        freenoise=False,
        cond_retain_index_list="",
        split_conds_to_windows=False,
        latent_retain_index_list="",
        causal_window_fix=causal,
    )


@pytest.mark.parametrize("causal", [True, False])
def test_what_stands_in_for_an_absent_negative_is_of_the_same_window(server, causal):
    """Dual Model CFG Guider runs its conditions one by one. Without a negative CFG++ sees the positive in its place."""

    def latent(g, m, negative):
        video = g.ProbeLatent(batch=1, channels=4, frames=9, masked=False)
        return custom_sampler(
            g, windowed(g, m, causal), "dual_model", 1.5, 6, "euler_cfg_pp", second=m, negative=negative, latent=video
        )

    g = Graph()
    m = g.ProbeModel(kind="video", seed=0, nonce=fresh())
    gone = g.ConditioningSetTimestepRange(conditioning=g.ProbeCondition(seed=2), start=1.0, end=1.0)
    ours = g.ProbeRead(latent=latent(g, cfg_combine(g, m, 1.5), gone), nonce=fresh())
    core = g.ProbeRead(latent=latent(g, m, g.ProbeCondition(seed=1)), nonce=fresh())
    result = server.run(g.prompt)
    ours, core = read(result, ours).latent, read(result, core).latent
    np.testing.assert_allclose(ours, core, atol=1e-5 * np.abs(core).max())


def test_a_guider_that_is_not_known_keeps_its_own_scales(server):
    """Bit for bit as without our node, which says so; the classifier acts on what it gives."""

    def build(ours):
        def latent(g, m, judge):
            m = cfg_combine(g, m, 9.0, "apg", eta=0.0, norm_threshold=0.5, momentum=0.0) if ours else m
            m = classifier_guidance(g, m, judge, "cat", 20.0)
            guider = g.ProbeForeignGuider(
                model=m, positive=g.ProbeCondition(seed=1), negative=g.ProbeCondition(seed=2), first=2.0, others=4.0
            )
            return g.SamplerCustomAdvanced(
                noise=g.RandomNoise(noise_seed=7),
                guider=guider,
                sampler=g.KSamplerSelect(sampler_name="euler"),
                sigmas=g.BasicScheduler(model=m, scheduler="normal", steps=4, denoise=1.0),
                latent_image=g.ProbeLatent(batch=1, channels=4, frames=0, masked=False),
            )

        return latent

    (ours, text), (core, _) = run(server, build(True)), run(server, build(False))
    assert np.array_equal(ours.latent, core.latent)
    assert ours.passes == core.passes == 8 and len(ours.classifier_calls) == 4
    assert "CFG: 8 passes run.\nTwoScales is not one of the guiders known here." in text


@pytest.mark.parametrize(
    ("scale", "window", "why"),
    [(SCALE, (90.0, 80.0), "its schedule is 0 at each of them"), (1.0, (100.0, 0.0), "at scale 1 it is off")],
)
def test_guidance_that_acts_at_no_step_says_so(server, scale, window, why):
    def build(g, m, judge):
        window_of = schedule(g, "interval", "sigma", start=window[0], end=window[1])
        return ksampler(g, cfg_combine(g, m, scale, schedule=window_of), 1.0, STEPS)

    reading, text = run(server, build)
    assert reading.passes == STEPS and told(text) == (STEPS, 2 * STEPS)
    assert f"CFG acted at no step: {why}" in text


@pytest.mark.parametrize("guider", ["cfg", "basic", "perp_neg", "dual_nested"])
def test_guidance_that_acts_at_no_step_says_so_under_every_guider(server, guider):
    """Basic Guider says that it has nothing to combine."""

    def build(g, m, judge):
        outside = schedule(g, "interval", "sigma", start=90.0, end=80.0)
        return custom_sampler(g, cfg_combine(g, m, SCALE, schedule=outside), guider, SCALE, 4)

    reading, text = run(server, build)
    assert reading.passes == 4
    assert ("CFG acted at no step" in text) == (guider != "basic")
    assert ("nothing to combine: CFG is off" in text) == (guider == "basic")


def test_passes_that_cannot_be_seen_are_said_to_be_asked_for(server):
    def build(g, m, judge):
        window = schedule(g, "interval", "step", start=0.0, end=0.4)
        video = g.ProbeLatent(batch=1, channels=4, frames=2, masked=False)
        return ksampler(g, cfg_combine(g, m, SCALE, schedule=window), 1.0, 6, latent=video)

    reading, text = run(server, build, "quiet")
    assert reading.passes == 9
    assert "CFG: 9 of 12 passes asked for; what ran cannot be seen on this model." in text
