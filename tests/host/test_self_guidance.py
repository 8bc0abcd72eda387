"""Self-guidance on a small random UNet: it is ComfyUI's own where that has it, and goes with all else that guides."""

import re

import numpy as np
import pytest
from graph import (
    GUIDERS,
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

STEPS = 4
WINDOW = {"shape": "interval", "axis": "step", "start": 0.0, "end": 1 / 3}  # 2 of 4 steps


def pag(g, m, scale=3.0, window=None):
    """Self-guidance by perturbed attention in the middle block."""
    return self_guidance(g, m, weakened(g, m), scale, window)


def core_pag(g, m, scale=3.0):
    return g.PerturbedAttentionGuidance(model=m, scale=scale)


def ran(server, build, kind="eps"):
    """(the reading of build(g, model, judge), what was said)."""
    g = Graph()
    model = g.ProbeModel(kind=kind, seed=0, nonce=fresh())
    judge = g.ProbeClassifier(channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=fresh())
    node = g.ProbeRead(latent=build(g, model, judge), model=model, classifier=judge, nonce=fresh())
    result = server.run(g.prompt)
    return read(result, node), said(result)


def under(guider, cfg, sampler="euler", **latent):
    """Sampling of a MODEL under a guider."""

    def sampled(g, m, base):
        made = g.ProbeLatent(**({"batch": 1, "channels": 4, "frames": 0, "masked": False} | latent))
        return custom_sampler(g, m, guider, cfg, STEPS, sampler, second=base, latent=made)

    return sampled


CASES = {
    "cfg 1": (under("cfg", 1.0), 2),
    "cfg 5": (under("cfg", 5.0), 3),
    "basic": (under("basic", 1.0), 2),
    "perp neg": (under("perp_neg", 5.0), 4),
    "batch of two": (under("cfg", 1.0, batch=2), 2),
    "two evaluations": (under("cfg", 1.0, "heun"), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_perturbed_attention_is_that_of_comfyui_bit_for_bit(server, case):
    sampled, passes = CASES[case]
    ours, text = ran(server, lambda g, m, judge: sampled(g, pag(g, m), m))
    core, _ = ran(server, lambda g, m, judge: sampled(g, core_pag(g, m), m))
    assert np.array_equal(ours.latent, core.latent)
    calls = 2 * STEPS - 1 if case == "two evaluations" else STEPS
    assert ours.passes == core.passes == passes * calls
    assert f"Self-guidance: added at {calls} of {calls} calls. Weakened passes run: {calls}." in text


PASSES = {"cfg": 2, "basic": 1, "perp_neg": 3, "dual_model": 2, "dual_regular": 3, "dual_nested": 3}  # of a call


def test_under_every_guider_it_acts_and_counts_its_passes(server):
    """It takes one pass more at each call, at scale 0 none, and none of them is said to be CFG's."""
    g = Graph()
    m = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    nodes = {}
    for guider in GUIDERS:
        combined = cfg_combine(g, m, 4.0)
        for name, guided in (("off", combined), ("zero", pag(g, combined, 0.0)), ("on", pag(g, combined))):
            nodes[guider, name] = g.ProbeRead(latent=under(guider, 4.0)(g, guided, m), model=m, nonce=fresh())
    result = server.run(g.prompt)
    found = {key: read(result, node) for key, node in nodes.items()}
    for guider in GUIDERS:
        off, zero, on = (found[guider, name].latent for name in ("off", "zero", "on"))
        assert np.array_equal(off, zero), guider
        assert np.abs(on - off).max() > 0.01 and np.isfinite(on).all(), guider
    run = sum(reading.passes for reading in found.values())
    assert run == 3 * STEPS * sum(PASSES.values()) + STEPS * len(GUIDERS)
    text = said(result)
    assert text.count(f"Self-guidance: added at {STEPS} of {STEPS} calls. Weakened passes run: {STEPS}.") == len(
        GUIDERS
    )
    assert text.count("Self-guidance was added at no step") == len(GUIDERS)


def test_outside_its_window_it_takes_no_pass_and_the_report_tells_of_it(server):
    g = Graph()
    m = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    guided = pag(g, m, window=schedule(g, **WINDOW))
    done = ksampler(g, guided, 1.0, STEPS)
    node = g.ProbeRead(latent=done, model=m, nonce=fresh())
    report = g.GuidanceKitGuidanceReport(model=guided, steps=STEPS, scheduler="normal", latent=done)
    result = server.run(g.prompt)
    reading, text = read(result, node), "\n".join(result.outputs[report.node]["text"]) + said(result)
    assert [len(conditions) for _, conditions in reading.calls] == [1] * 6 and reading.passes == STEPS + 2
    assert "Self-guidance: scale 3, schedule interval by step from 0 to 0.333333; 2 of 4 steps." in text
    assert "Self-guidance: added at 2 of 4 calls. Weakened passes run: 2." in said(result)
    assert len(re.findall(r"passes \d \+ 1, Self-guidance 3", text)) == 2


def test_methods_that_adjust_the_result_tame_it(server):
    """Rescale fits the deviation of the sum to the conditional's, at CFG 1 and above."""
    g = Graph()
    m = g.ProbeTransformer(family="Flux", dtype="fp32", nonce=fresh())
    latent = g.ProbeLatents(shape="1,16,8,8", level=0.0, seed=5)

    def size(cfg, methods, scale=20.0):
        guided = self_guidance(g, m, weakened(g, m, "skipped_layers"), scale)
        for method in methods:
            guided = cfg_combine(g, guided, cfg, method, **({"rescale": 1.0} if method == "rescale" else {}))
        return g.ProbeRead(latent=ksampler(g, guided, cfg, STEPS, latent=latent), nonce=fresh())

    nodes = [
        size(*case) for case in ((1.0, [], 0.0), (1.0, ["standard"]), (1.0, ["rescale"]), (3.0, []), (3.0, ["rescale"]))
    ]
    result = server.run(g.prompt)
    plain, added, tamed, with_cfg, tamed_with_cfg = (float(read(result, node).latent.std()) for node in nodes)
    assert added > 3 * plain and tamed < 1.5 * plain
    assert with_cfg > 3 * plain and tamed_with_cfg < 1.5 * plain


def test_it_stacks_with_our_other_nodes(server):
    """A classifier, a method, a second weaker self: each acts, and the order of wiring does not matter."""
    others = {
        "classifier": lambda g, m, judge: classifier_guidance(g, m, judge, "cat", 20.0),
        "apg": lambda g, m, judge: cfg_combine(g, m, 5.0, "apg", eta=0.0, norm_threshold=2.0, momentum=-0.5),
    }

    def latent(*nodes):
        def build(g, m, judge):
            for node in nodes:
                m = node(g, m, judge)
            return ksampler(g, m, 5.0, STEPS)

        return ran(server, build)[0].latent

    def ours(g, m, judge):
        return pag(g, m, 2.0)

    alone = latent(ours)
    for name, other in others.items():
        one, two = latent(other, ours), latent(ours, other)
        assert np.array_equal(one, two), name
        assert np.abs(one - alone).max() > 1e-3 and np.abs(one - latent(other)).max() > 1e-3, name


def test_two_of_the_same_are_one_of_both_scales(server):
    """And the same prompt gives the same bits again."""
    twice, _ = ran(server, lambda g, m, judge: ksampler(g, pag(g, pag(g, m, 1.0), 1.0), 1.0, STEPS))
    once, _ = ran(server, lambda g, m, judge: ksampler(g, pag(g, m, 2.0), 1.0, STEPS))
    again, _ = ran(server, lambda g, m, judge: ksampler(g, pag(g, m, 2.0), 1.0, STEPS))
    np.testing.assert_allclose(twice.latent, once.latent, atol=1e-4 * np.abs(once.latent).max())
    assert np.array_equal(once.latent, again.latent)


def test_a_step_cache_sees_it_apart_from_the_positive(server):
    """What EasyCache fills in for the positive is the positive's; the weaker self runs at every step, and is told."""

    def build(ours):
        def latent(g, m, judge):
            m = g.EasyCache(model=m, reuse_threshold=3.0, start_percent=0.0, end_percent=1.0, verbose=False)
            return ksampler(g, pag(g, m, 2.0) if ours else m, 1.0, 8)

        return latent

    (guided, text), (plain, _) = ran(server, build(True)), ran(server, build(False))
    assert np.isfinite(guided.latent).all() and np.abs(guided.latent - plain.latent).max() > 1e-3
    assert plain.passes < 8 and guided.passes == plain.passes + 8 and "Weakened passes run: 8." in text
