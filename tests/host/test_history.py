"""History terms and variety in the condition in a real ComfyUI: at CFG 1, under every guider, beside all else."""

import json

import numpy as np
import pytest
from graph import (
    GUIDERS,
    Graph,
    cfg_combine,
    classifier_guidance,
    custom_sampler,
    fresh,
    history_guidance,
    ksampler,
    read,
    said,
    schedule,
    vary_condition,
)

from devtools.server import PromptFailed

STEPS = 4
TERMS = {
    "mg": {"memory": 0.6},
    "higs": {"memory": 0.25, "eta": 0.0, "t_min": 0.0, "t_max": 1.0, "cutoff": 0.05},
    "tag": {},
}
VARIETIES = {"cads": {"psi": 1.0}, "seed_variance": {"share": 0.5}}
WINDOW = {"shape": "interval", "axis": "step", "start": 0.0, "end": 1 / 3}  # 2 of 4 steps


def ran(server, builds, kind="eps"):
    """(the reading of each build(g, model) by name, what was said), of one prompt."""
    g, nodes = Graph(), {}
    for name, build in builds.items():
        model = g.ProbeModel(kind=kind, seed=0, nonce=fresh())
        nodes[name] = g.ProbeRead(latent=build(g, model), model=model, nonce=fresh())
    result = server.run(g.prompt)
    return {name: read(result, node) for name, node in nodes.items()}, said(result)


def sampled(term=None, cfg=1.0, sampler="euler", **options):
    def build(g, m):
        return ksampler(g, history_guidance(g, m, term, **TERMS[term] | options) if term else m, cfg, STEPS, sampler)

    return build


@pytest.mark.parametrize("term", TERMS)
def test_a_history_term_acts_at_cfg_1_and_runs_no_further_pass(server, term):
    """And at 0 not at all; runs repeat to the bit; a step of Heun's enters once, however often it calls."""
    heun = sampled(term, sampler="heun")
    builds = {"plain": sampled(), "on": sampled(term), "again": sampled(term), "off": sampled(term, scale=0.0)}
    found, text = ran(server, {**builds, "heun": heun})
    on, plain = found["on"], found["plain"]
    assert on.passes == plain.passes == STEPS and np.isfinite(on.latent).all()
    assert np.abs(on.latent - plain.latent).max() > 1e-3
    assert np.array_equal(found["again"].latent, on.latent) and np.array_equal(found["off"].latent, plain.latent)
    first = term != "tag"  # it has nothing to go by at the first step
    assert f"added at {STEPS - first} of {STEPS} calls." in text
    calls = 2 * STEPS - 1
    assert f"added at {calls - first} of {calls} calls." in text and np.isfinite(found["heun"].latent).all()


def test_under_every_guider_a_history_term_and_a_variety_act(server):
    """Without a pass more, and on the video as on the picture."""
    kinds = {
        "plain": lambda g, m: m,
        "term": lambda g, m: history_guidance(g, m, "mg", **TERMS["mg"]),
        "variety": lambda g, m: vary_condition(g, m, "cads", 1.0, **VARIETIES["cads"]),
    }

    def under(guider, kind):
        return lambda g, m: custom_sampler(g, kinds[kind](g, m), guider, 4.0, STEPS, second=m)

    found, _ = ran(server, {(guider, kind): under(guider, kind) for guider in GUIDERS for kind in kinds})
    for guider in GUIDERS:
        plain = found[guider, "plain"]
        for kind in ("term", "variety"):
            assert np.abs(found[guider, kind].latent - plain.latent).max() > 1e-4, (guider, kind)
            assert found[guider, kind].passes == plain.passes, (guider, kind)


def test_terms_stack_with_cfg_and_classifiers_and_the_report_names_them(server):
    g = Graph()
    m = g.ProbeModel(kind="flow", seed=0, nonce=fresh())
    judge = g.ProbeClassifier(channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=fresh())
    late = schedule(g, **WINDOW)
    chain = cfg_combine(g, classifier_guidance(g, m, judge, "cat", 2.0), 3.0, "rescale", rescale=0.5)
    chain = history_guidance(g, history_guidance(g, chain, "mg", **TERMS["mg"]), "tag", 0.1, late)
    chain = vary_condition(g, chain, "seed_variance", 1.0, **VARIETIES["seed_variance"])
    done = ksampler(g, chain, 1.0, STEPS)
    report = g.GuidanceKitGuidanceReport(model=chain, steps=STEPS, scheduler="normal", latent=done)
    node = g.ProbeRead(latent=done, model=m, nonce=fresh())
    result = server.run(g.prompt)
    assert np.isfinite(read(result, node).latent).all()
    text = "\n".join(result.outputs[report.node]["text"])
    assert "Momentum guidance (MG): scale 0.5, constant; 4 of 4 steps." in text
    assert "Tangential amplifying guidance (TAG): scale 0.1, schedule interval by step" in text and "; 2 of 4" in text
    assert "Seed variance: scale 1, schedule interval by step" in text
    assert "Seed variance: varied the prompt tokens at 1 of 4 calls." in said(result)


def test_video_is_guided_by_its_history(server):
    def build(g, m):
        frames = g.ProbeLatent(batch=2, channels=4, frames=3, masked=False)
        for term in TERMS:
            m = history_guidance(g, m, term, 0.1, **TERMS[term])
        return ksampler(g, m, 1.0, STEPS, latent=frames)

    latent = ran(server, {"": build}, "video")[0][""].latent
    assert latent.shape == (2, 4, 3, 16, 16) and np.isfinite(latent).all()


FAMILIES = {"SD3": "2,16,8,8", "Flux": "2,16,8,8", "Lumina": "2,16,8,8", "Wan": "2,16,3,8,8"}
POOLED = ("SD3", "Flux")


@pytest.mark.parametrize(
    ("family", "variety"),
    [("SD3", "cads"), ("SD3", "seed_variance"), ("Flux", "cads"), ("Lumina", "cads"), ("Wan", "seed_variance")],
)
def test_a_variety_reaches_the_network_in_tokens_and_pooled(server, family, variety):
    """The positive as the network is told it: other than the prompt inside the window, another for each sample of the
    batch, and the prompt itself outside; the negative is left alone throughout.
    """

    def heard(build):
        g = Graph()
        m = g.ProbeHeard(model=g.ProbeTransformer(family=family, dtype="fp32", nonce=fresh()), nonce=fresh())
        latent = g.ProbeLatents(shape=FAMILIES[family], level=0.0, seed=5)
        done = ksampler(g, build(g, m), 3.0, STEPS, latent=latent)
        node = g.ProbeHeardRead(latent=done, model=m, nonce=fresh())
        picture = g.ProbeRead(latent=done, nonce=fresh())
        result = server.run(g.prompt)
        calls = json.loads(result.outputs[node.node]["text"][0])
        told = [{0: [], 1: []} for _ in calls]
        for call, (conditions, *tensors) in zip(told, calls, strict=True):
            for tensor in tensors if family in POOLED else tensors[:1]:
                for which, chunk in zip(conditions, np.split(np.array(tensor), len(conditions)), strict=True):
                    call[which].append(chunk)
        return told, read(result, picture).latent

    def build(g, m):
        return vary_condition(g, m, variety, 0.5, schedule(g, **WINDOW), **VARIETIES[variety])

    plain, before = heard(lambda g, m: m)
    varied, after = heard(build)
    assert len(varied) == len(plain) == STEPS and np.abs(after - before).max() > 1e-3
    for i, (call, usual) in enumerate(zip(varied, plain, strict=True)):
        assert all(np.array_equal(*pair) for pair in zip(call[1], usual[1], strict=True))  # the negative
        for got, prompt in zip(call[0], usual[0], strict=True):
            if i < 2:
                assert np.abs(got - prompt).max() > 0.05 and np.abs(got[0] - got[1]).max() > 0.05
            else:
                assert np.array_equal(got, prompt)


def test_a_variety_repeats_and_goes_by_its_seed(server):
    def latent(variation=0, variety="seed_variance"):
        def build(g, m):
            varied = vary_condition(g, m, variety, 2.0, variation=variation, **VARIETIES[variety])
            return ksampler(g, varied, 1.0, STEPS)

        return build

    builds = {"want": latent(), "again": latent(), "seed": latent(variation=1), "other": latent(variety="cads")}
    found, _ = ran(server, builds)
    assert np.array_equal(found["again"].latent, found["want"].latent)
    assert not any(np.array_equal(found[name].latent, found["want"].latent) for name in ("seed", "other"))


def test_a_schedule_beyond_1_is_refused_in_a_sentence(server):
    def build(g, m):
        return ksampler(g, vary_condition(g, m, "cads", 0.5, schedule(g, high=2.0), psi=1.0), 1.0, STEPS)

    with pytest.raises(PromptFailed, match=r"Vary Condition: cads needs a schedule in \[0, 1\]"):
        ran(server, {"": build})
