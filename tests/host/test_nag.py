"""ComfyUI's Normalized Attention Guidance and its skip-layer node for simple DiTs beside CFG Combine."""

import numpy as np
from graph import Graph, cfg_combine, custom_sampler, fresh, ksampler, read, said, schedule

STEPS = 6
FIRST_HALF = {"shape": "interval", "axis": "step", "start": 0.0, "end": 2 / 5}  # 3 of 6 steps


def nag(g, m):
    return g.NAGuidance(model=m, nag_scale=5.0, nag_alpha=0.5, nag_tau=2.5)


def ran(server, build):
    """(the reading of build(g, model), what was said)."""
    g = Graph()
    m = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    node = g.ProbeRead(latent=build(g, m), model=m, nonce=fresh())
    result = server.run(g.prompt)
    return read(result, node), said(result)


def test_it_follows_the_schedule_and_the_passes_are_saved(server):
    """Inside the window it is what it is by itself, outside of it the model alone; at CFG 1, and beside CFG."""
    whole, _ = ran(server, lambda g, m: ksampler(g, nag(g, m), 1.0, STEPS))
    plain, _ = ran(server, lambda g, m: ksampler(g, m, 1.0, STEPS))
    assert whole.passes == 2 * STEPS and plain.passes == STEPS

    def scheduled(scale, window):
        return lambda g, m: ksampler(g, cfg_combine(g, nag(g, m), scale, schedule=schedule(g, **window)), 1.0, STEPS)

    half, text = ran(server, scheduled(1.0, FIRST_HALF))
    assert half.passes == 2 * 3 + 3
    assert [len(conditions) for _, conditions in half.calls] == [2, 2, 2, 1, 1, 1]
    assert "Normalized Attention Guidance follows the schedule" in text
    assert "; 9 of 12 passes" in text
    latents = [half.latent, whole.latent, plain.latent]
    assert not any(np.array_equal(latents[i], latents[i - 1]) for i in range(3)), "its effect is small here, but there"
    always, _ = ran(server, scheduled(1.0, FIRST_HALF | {"end": 1.0}))
    never, _ = ran(server, scheduled(1.0, {"shape": "interval", "axis": "sigma", "start": 90.0, "end": 80.0}))
    assert np.array_equal(always.latent, whole.latent) and always.passes == 2 * STEPS
    assert np.array_equal(never.latent, plain.latent) and never.passes == STEPS
    beside, _ = ran(server, scheduled(4.0, FIRST_HALF))
    assert beside.passes == 2 * 3 + 3


def test_where_another_asks_for_the_negative_it_runs(server):
    """A CFG++ sampler reads the negative at every step, and so does a hook that is not known here."""

    def scheduled(g, m, sampler="euler"):
        return ksampler(g, cfg_combine(g, nag(g, m), 4.0, schedule=schedule(g, **FIRST_HALF)), 1.0, STEPS, sampler)

    sampler, text = ran(server, lambda g, m: scheduled(g, m, "euler_cfg_pp"))
    assert sampler.passes == 2 * STEPS and "needs both passes at every step" in text
    hook, _ = ran(server, lambda g, m: scheduled(g, g.SelfAttentionGuidance(model=m, scale=0.5, blur_sigma=2.0)))
    assert hook.passes >= 3 * STEPS
    harmless, _ = ran(server, lambda g, m: scheduled(g, g.PerturbedAttentionGuidance(model=m, scale=1.0)))
    assert harmless.passes == 2 * 3 + 3 + STEPS


def test_the_simple_skip_layer_node_is_counted_and_named(server):
    """It runs the conditions in place of the guider, so that its passes are CFG's; most guiders do not run it."""
    g = Graph()
    m = g.ProbeTransformer(family="SD3", dtype="fp32", nonce=fresh())
    skipping = g.SkipLayerGuidanceDiTSimple(
        model=m, double_layers="1", single_layers="", start_percent=0.0, end_percent=1.0
    )
    guided = cfg_combine(g, skipping, 4.0, schedule=schedule(g, **FIRST_HALF))
    latent = g.ProbeLatents(shape="1,16,8,8", level=0.0, seed=5)
    done = ksampler(g, guided, 1.0, STEPS, latent=latent)
    node = g.ProbeRead(latent=done, model=m, nonce=fresh())
    report = g.GuidanceKitGuidanceReport(model=guided, steps=STEPS, scheduler="normal", latent=done)
    other = g.ProbeRead(latent=custom_sampler(g, guided, "perp_neg", 4.0, 2, latent=latent), nonce=fresh())
    result = server.run(g.prompt)
    text = said(result) + "\n".join(result.outputs[report.node]["text"])
    assert read(result, node).passes >= 9 and "; 9 of 12 passes" in text
    assert "function in place of the passes of SkipLayerGuidanceDiTSimple: not run by" in text
    assert "of SkipLayerGuidanceDiTSimple is not run by this guider (Guider_PerpNeg)" in text
    assert other is not None
