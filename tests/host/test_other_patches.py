"""Our nodes beside those of others on one MODEL, before them and after them: LoRA, ControlNet, FreeU, PAG and CFG."""

import numpy as np
import pytest
import torch
from graph import (
    Graph,
    cfg_combine,
    checkpoint,
    classifier_guidance,
    fresh,
    ksampler,
    read,
    said,
    schedule,
    self_guidance,
    weakened,
)
from safetensors.torch import save_file

SCALE = 5.0
WINDOW = {"start_percent": 0.0, "end_percent": 1.0}
LORA = "middle_block_1_transformer_blocks_0_attn2_to_k"  # of ProbeModel's UNet


@pytest.fixture(scope="module")
def lora(server) -> str:
    """A small random LoRA among the server's own."""
    folder = server.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    draw = torch.Generator().manual_seed(0)
    up, down = torch.randn(64, 4, generator=draw), torch.randn(4, 16, generator=draw)
    save_file(
        {f"lora_unet_{LORA}.lora_up.weight": up, f"lora_unet_{LORA}.lora_down.weight": down}, folder / "r.safetensors"
    )
    return "r.safetensors"


OTHERS = {
    "LoRA": lambda g, m: g.LoraLoaderModelOnly(model=m, lora_name="r.safetensors", strength_model=0.7),
    "FreeU": lambda g, m: g.FreeU(model=m, b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    "FreeU_V2": lambda g, m: g.FreeU_V2(model=m, b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    "PAG": lambda g, m: g.PerturbedAttentionGuidance(model=m, scale=3.0),
    "RescaleCFG": lambda g, m: g.RescaleCFG(model=m, multiplier=0.7),
    "CFGOverride": lambda g, m: g.CFGOverride(model=m, cfg=3.0, **WINDOW),
}


def classified(g, m):
    made = g.ProbeClassifier(channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=0)
    return classifier_guidance(g, m, made, "cat", 20.0)


OURS = {
    "CFG Combine": lambda g, m: cfg_combine(g, m, SCALE),
    "CFG Combine, apg": lambda g, m: cfg_combine(g, m, SCALE, "apg", eta=0.0, norm_threshold=2.0, momentum=-0.5),
    "Classifier Guidance": classified,
    "Self-Guidance": lambda g, m: self_guidance(g, m, weakened(g, m), 2.0),
}


def sampled(server, *chains):
    """The latents of one model under several chains of nodes, and all that was said."""
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    nodes = []
    for chain in chains:
        patched = model
        for patch in chain:
            patched = patch(g, patched)
        nodes.append(g.ProbeRead(latent=ksampler(g, patched, 8.0, steps=4), nonce=fresh()))
    result = server.run(g.prompt)
    return [read(result, node).latent for node in nodes], said(result)


def differ(a, b) -> bool:
    return bool(np.abs(a - b).max() > 1e-5 * np.abs(a).max())


@pytest.mark.parametrize("ours", OURS)
@pytest.mark.parametrize("other", OTHERS)
def test_both_act_in_either_order(server, lora, other, ours):
    """Together they give neither what one alone gives nor what the other alone gives, and wiring order is no matter."""
    one, two = OTHERS[other], OURS[ours]
    (plain, alone, own, before, after), said = sampled(server, [], [one], [two], [one, two], [two, one])
    for latent in (plain, alone, own, before, after):
        assert np.isfinite(latent).all()
    assert differ(alone, plain) and differ(own, plain)
    if other == "CFGOverride" and ours.startswith("CFG Combine"):  # both set the scale: see below
        assert not np.array_equal(before, after)
        return
    if other == "RescaleCFG" and ours == "CFG Combine, apg":  # both are the rule by which the two predictions join
        assert "The CFG function of RescaleCFG is replaced by the method here" in said
        assert np.array_equal(before, own) and np.array_equal(after, own)
        return
    for both in (before, after):
        assert differ(both, alone) and differ(both, own)
    assert np.array_equal(before, after)


@pytest.mark.parametrize("way", ["token_perturbation", "sliding_windows"])
def test_ways_to_weaken_beside_all_of_them_at_once(server, lora, way):
    """Behind all others and before them it is the same; without it or without any of them it is another."""

    def led_away(g, m):
        return self_guidance(g, m, weakened(g, m, way), 2.0)

    others = [OTHERS["LoRA"], OTHERS["PAG"], OURS["CFG Combine, apg"], OURS["Classifier Guidance"]]
    fewer = [[*others[:i], *others[i + 1 :], led_away] for i in range(len(others))]
    (behind, before, *rest), _ = sampled(server, [*others, led_away], [led_away, *others], others, *fewer)
    assert np.isfinite(behind).all() and np.array_equal(behind, before)
    assert all(differ(behind, each) for each in rest)


def at_scale(method, **parameters):
    return lambda scale: lambda g, m: cfg_combine(g, m, scale, method, **parameters)


@pytest.mark.parametrize(
    "ours", [at_scale("standard"), at_scale("apg", eta=0.0, norm_threshold=2.0, momentum=-0.5)], ids=["standard", "apg"]
)
def test_of_two_scales_the_one_nearest_the_sampler_wins(server, ours):
    """CFG Override behind CFG Combine sets the scale under our method; before it, ours stays."""
    override = OTHERS["CFGOverride"]
    (behind, before, at_its, at_ours), _ = sampled(
        server, [ours(SCALE), override], [override, ours(SCALE)], [ours(3.0)], [ours(SCALE)]
    )
    assert np.array_equal(behind, at_its)
    assert np.array_equal(before, at_ours)
    assert differ(at_its, at_ours)


@pytest.mark.parametrize("ours", OURS)
def test_a_controlnet_beside_our_nodes(server, ours):
    """With its control on the positive alone, and from the middle of the run on: each acts, and both together."""
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    hint = g.EmptyImage(width=128, height=128, batch_size=1, color=0x4080C0)
    positive, negative = g.ProbeCondition(seed=1), g.ProbeCondition(seed=2)
    control = g.ControlNetApplyAdvanced(
        positive=positive,
        negative=negative,
        control_net=g.ProbeControlNet(),
        image=hint,
        strength=0.8,
        start_percent=0.3,
        end_percent=1.0,
    )
    nodes = []
    for patched, prompt in ((model, positive), (model, control), (OURS[ours](g, model), positive)):
        nodes.append(ksampler(g, patched, 2.0, steps=4, positive=prompt, negative=negative))
    for first, second in ((control, negative), (control, control.slot(1))):
        nodes.append(ksampler(g, OURS[ours](g, model), 2.0, steps=4, positive=first, negative=second))
    nodes = [g.ProbeRead(latent=latent, nonce=fresh()) for latent in nodes]
    result = server.run(g.prompt)
    plain, controlled, guided, both, both_sides = (read(result, node).latent for node in nodes)
    for latent in (plain, controlled, guided, both, both_sides):
        assert np.isfinite(latent).all()
    assert differ(controlled, plain) and differ(guided, plain)
    assert differ(both, controlled) and differ(both, guided) and differ(both_sides, both)


@pytest.mark.parametrize("other", ["LoRA", "FreeU", "FreeU_V2", "PAG"])  # the rest act on the scale alone
def test_where_our_schedule_is_off_other_patches_act_alone(server, lora, other):
    """Outside its window CFG Combine is as if it were not there, whatever else is on the MODEL."""

    def off(g, m):
        return cfg_combine(g, m, SCALE, schedule=schedule(g, "interval", start=1.0, end=1.0, high=0.0))

    def at_one(g, m):
        return g.CFGOverride(model=m, cfg=1.0, **WINDOW)

    (ours, alone, plain), _ = sampled(server, [OTHERS[other], off], [OTHERS[other], at_one], [at_one])
    assert np.array_equal(ours, alone)
    assert differ(alone, plain)


COPIED = "Creating deepclone of LatentEncoder"


@pytest.mark.parametrize("place", ["before ours", "after ours"])
def test_multigpu_cfg_split(server, place):
    """The two passes run on two devices, and the classifier and its weights are where ComfyUI wants them."""
    name = checkpoint(server)
    g = Graph()
    plain = g.UNETLoader(unet_name=name, weight_dtype="default")
    classifier = g.ProbeClassifier(channels=16, latent_space="", nan_below_log_snr=-1000.0, nonce=fresh())

    def ours(m):
        return classifier_guidance(g, cfg_combine(g, m, 4.0), classifier, "dog", 50.0)

    halves = []

    def split(m):
        halves.append(g.ProbeMultiGPU(model=m, nonce=fresh()))
        return halves[0]

    copies = server.log().count(COPIED)
    latent = g.ProbeLatents(shape="1,16,8,8", level=0.0, seed=1)
    chains = (plain, ours(plain), ours(split(plain)) if place == "before ours" else split(ours(plain)))
    second = [{}, {}, {"second_model": halves[0].slot(1)}]
    nodes = [
        g.ProbeRead(latent=ksampler(g, model, latent=latent), nonce=fresh(), **more)
        for model, more in zip(chains, second, strict=True)
    ]
    result = server.run(g.prompt)
    without, one, two = (read(result, node).latent for node in nodes)
    np.testing.assert_allclose(two, one, atol=1e-4 * np.abs(one).max())
    assert differ(one, without)
    calls = read(result, nodes[2]).second_calls
    assert len(calls) == 6 and {len(conditions) for _, conditions in calls} == {1}, "the passes were not split"
    assert server.log().count(COPIED) == copies + 1
