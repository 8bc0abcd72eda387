"""CFG Combine in a real ComfyUI: the host's own result at a constant scale, and fewer passes where the scale is 1."""

import numpy as np
import pytest
from graph import Graph, cfg_combine, classifier_guidance, custom_sampler, fresh, ksampler, read, said, schedule

SCALE = 5.5


def run(server, build, kind="eps"):
    """The reading of a graph: build(g, model) gives a latent."""
    g = Graph()
    model = g.ProbeModel(kind=kind, seed=0, nonce=fresh())
    node = g.ProbeRead(latent=build(g, model), model=model, nonce=fresh())
    result = server.run(g.prompt)
    return read(result, node), result, g


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "ddim"])
def test_constant_standard_gives_the_bits_of_ksampler(server, kind, sampler):
    ours, *_ = run(server, lambda g, m: ksampler(g, cfg_combine(g, m, SCALE), 1.0, sampler=sampler), kind)
    core, *_ = run(server, lambda g, m: ksampler(g, m, SCALE, sampler=sampler), kind)
    other, *_ = run(server, lambda g, m: ksampler(g, m, 1.0, sampler=sampler), kind)
    assert np.array_equal(ours.latent, core.latent)
    assert np.isfinite(core.latent).all() and np.abs(core.latent - other.latent).max() > 1e-2
    assert ours.passes == core.passes


@pytest.mark.parametrize("guider", ["cfg", "basic", "perp_neg", "dual_model", "dual_regular", "dual_nested"])
@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_constant_standard_gives_the_bits_of_every_guider(server, guider, kind):
    """Dual CFG keeps its own two scales, Basic has nothing to combine; the others take the node's scale for theirs."""

    def build(ours):
        def latent(g, model):
            second = g.ProbeModel(kind=kind, seed=3, nonce=fresh()) if guider == "dual_model" else None
            own = 1.0 if ours and not guider.startswith("dual_r") and not guider.startswith("dual_n") else SCALE
            patched = cfg_combine(g, model, SCALE) if ours else model
            return custom_sampler(g, patched, guider, own, second=second)

        return latent

    ours, *_ = run(server, build(True), kind)
    core, *_ = run(server, build(False), kind)
    assert np.array_equal(ours.latent, core.latent)
    assert ours.calls == core.calls


@pytest.mark.parametrize(
    ("guider", "outside", "inside"),
    [("cfg", 1, 2), ("basic", 1, 1), ("perp_neg", 1, 3), ("dual_regular", 1, 3), ("dual_nested", 1, 3)],
)
@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_interval_runs_only_the_conditional_outside(server, guider, outside, inside, sampler):
    """Ten steps, a window over steps 3 to 6. Heun evaluates each step but the last twice."""
    steps = 10

    def build(g, model):
        window = schedule(g, "interval", "step", start=3 / 9, end=6 / 9)
        return custom_sampler(g, cfg_combine(g, model, SCALE, schedule=window), guider, SCALE, steps, sampler)

    reading, result, g = run(server, build)
    at_level = {}
    for t, conditions in reading.calls:
        at_level.setdefault(t, []).append(len(conditions))
    levels = sorted(at_level, reverse=True)
    assert len(levels) == steps
    for i, t in enumerate(levels):
        evaluations = 1 if sampler == "euler" or i == 0 else 2
        expected = (inside if 3 <= i <= 6 else outside) * evaluations
        assert sum(at_level[t]) == expected, f"step {i}"
    total = inside * sum(1 if sampler == "euler" or i == 0 else 2 for i in range(steps))
    assert f"{reading.passes} of {total} passes" in said(result)


def test_dual_model_does_not_run_the_weak_model_outside(server):
    def build(g, model):
        window = schedule(g, "interval", "step", start=2 / 5, end=3 / 5)
        build.second = g.ProbeModel(kind="eps", seed=3, nonce=fresh())
        patched = cfg_combine(g, model, SCALE, schedule=window)
        return custom_sampler(g, patched, "dual_model", 1.0, 6, second=build.second)

    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    latent = build(g, model)
    node = g.ProbeRead(latent=latent, model=model, second_model=build.second, nonce=fresh())
    reading = read(server.run(g.prompt), node)
    assert len(reading.calls) == 6
    assert len(reading.second_calls) == 2


def test_scale_zero_runs_only_the_unconditional(server):
    reading, *_ = run(server, lambda g, m: ksampler(g, cfg_combine(g, m, 0.0), 7.0))
    swapped, *_ = run(
        server, lambda g, m: ksampler(g, m, 1.0, positive=g.ProbeCondition(seed=2), negative=g.ProbeCondition(seed=1))
    )
    assert [conditions for _, conditions in reading.calls] == [[1]] * 6
    np.testing.assert_allclose(reading.latent, swapped.latent, atol=1e-5)


@pytest.mark.parametrize("guider", ["cfg", "perp_neg", "dual_model", "dual_regular", "dual_nested"])
def test_negative_that_ends_early_is_absent_from_then_on(server, guider):
    """It is as if guidance by it ended there: the conditional is used, where ComfyUI multiplies it by the scale."""

    def build(ends: bool):
        def latent(g, model):
            negative = g.ProbeCondition(seed=2)
            if ends:
                negative = g.ConditioningSetTimestepRange(conditioning=negative, start=0.0, end=0.5)
            window = None if ends else schedule(g, "interval", "percent", start=0.0, end=0.5)
            patched = cfg_combine(g, model, SCALE, schedule=window)
            return custom_sampler(g, patched, guider, SCALE, second=model, negative=negative)

        return latent

    absent, *_ = run(server, build(True))
    scheduled, *_ = run(server, build(False))
    assert 6 < absent.passes < 18
    if guider in ("cfg", "dual_model"):  # the others have a third condition, which goes on
        assert np.array_equal(absent.latent, scheduled.latent)
        assert absent.passes == scheduled.passes
    burnt, *_ = run(
        server,
        lambda g, m: custom_sampler(
            g,
            m,
            guider,
            SCALE,
            second=m,
            negative=g.ConditioningSetTimestepRange(conditioning=g.ProbeCondition(seed=2), start=0.0, end=0.5),
        ),
    )
    assert not np.array_equal(absent.latent, burnt.latent)


@pytest.mark.parametrize("guider", ["cfg", "perp_neg", "dual_model", "dual_regular", "dual_nested"])
def test_positive_that_ends_early_leaves_the_others(server, guider):
    """What is left guides on; nothing is multiplied against a prediction of zeros."""

    def build(ends: bool):
        def latent(g, model):
            positive = g.ProbeCondition(seed=1)
            if ends:
                positive = g.ConditioningSetTimestepRange(conditioning=positive, start=0.0, end=0.5)
            return custom_sampler(g, cfg_combine(g, model, SCALE), guider, SCALE, second=model, positive=positive)

        return latent

    early, *_ = run(server, build(True))
    whole, *_ = run(server, build(False))
    assert not np.array_equal(early.latent, whole.latent)
    assert early.latent.std() < 1.2 * whole.latent.std()


@pytest.mark.parametrize("guider", ["perp_neg", "dual_regular", "dual_nested"])
def test_without_a_negative_the_third_condition_is_guided_against(server, guider):
    """Perp-Neg's empty prompt and Dual CFG's second condition are then the unconditional of plain CFG."""

    def absent(g, model):
        gone = g.ConditioningSetTimestepRange(conditioning=g.ProbeCondition(seed=2), start=0.0, end=0.0)
        return custom_sampler(g, cfg_combine(g, model, SCALE), guider, SCALE, negative=gone)

    guided, *_ = run(server, absent)
    plain, *_ = run(server, lambda g, m: ksampler(g, m, SCALE, negative=g.ProbeCondition(seed=3)))
    np.testing.assert_allclose(guided.latent, plain.latent, atol=2e-4 * np.abs(plain.latent).max())


@pytest.mark.parametrize("guider", ["dual_regular", "dual_nested"])
def test_dual_cfg_without_its_first_condition_is_cfg_on_the_second(server, guider):
    def absent(g, model):
        gone = g.ConditioningSetTimestepRange(conditioning=g.ProbeCondition(seed=1), start=0.0, end=0.0)
        return custom_sampler(g, cfg_combine(g, model, 1.0), guider, SCALE, positive=gone)

    dual, *_ = run(server, absent)
    plain, *_ = run(server, lambda g, m: ksampler(g, m, SCALE - 1.5, positive=g.ProbeCondition(seed=3)))
    np.testing.assert_allclose(dual.latent, plain.latent, atol=2e-4 * np.abs(plain.latent).max())


def test_two_runs_are_bit_equal(server):
    def build(g, model):
        cosine = schedule(g, "cosine", "step", low=0.2)
        return ksampler(g, cfg_combine(g, model, SCALE, "noisy_condition", cosine, noise=0.2), sampler="dpmpp_2m")

    first, *_ = run(server, build)
    again, *_ = run(server, build)
    assert np.array_equal(first.latent, again.latent)


@pytest.mark.parametrize("guider", ["cfg", "perp_neg", "dual_model", "dual_regular", "dual_nested"])
@pytest.mark.parametrize("kind", ["eps", "v", "flow", "edm"])
def test_methods_act_under_every_guider(server, guider, kind):
    """Rescale 0 is the plain result up to rounding; rescale 1 and noise in the condition make others, finite ones."""

    def build(method, **parameters):
        def latent(g, model):
            second = g.ProbeModel(kind=kind, seed=3, nonce=fresh()) if guider == "dual_model" else None
            return custom_sampler(g, cfg_combine(g, model, SCALE, method, **parameters), guider, SCALE, second=second)

        return latent

    plain, *_ = run(server, build("standard"), kind)
    off, *_ = run(server, build("rescale", rescale=0.0), kind)
    rescaled, *_ = run(server, build("rescale", rescale=1.0), kind)
    on, *_ = run(server, build("noisy_condition", noise=0.5), kind)
    scale = np.abs(plain.latent).max()
    np.testing.assert_allclose(off.latent, plain.latent, atol=2e-4 * scale)
    assert np.abs(rescaled.latent - plain.latent).max() > 10 * np.abs(off.latent - plain.latent).max()
    assert np.isfinite(rescaled.latent).all() and np.isfinite(on.latent).all()
    assert np.abs(on.latent - plain.latent).max() > 1e-3 * scale


def test_chained_nodes_extend_one_pipeline(server):
    """Two methods, wired in either order, give one result; the last node sets the scale."""

    def build(first, second):
        def latent(g, model):
            model = cfg_combine(g, model, SCALE if second else 2.0, first[0], **first[1])
            return ksampler(g, cfg_combine(g, model, SCALE, second[0], **second[1]), 1.0)

        return latent

    methods = [("rescale", {"rescale": 0.7}), ("noisy_condition", {"noise": 0.2})]
    one, *_ = run(server, build(*methods))
    two, *_ = run(server, build(*reversed(methods)))
    alone, *_ = run(server, lambda g, m: ksampler(g, cfg_combine(g, m, SCALE, "rescale", rescale=0.7), 1.0))
    assert np.array_equal(one.latent, two.latent)
    assert not np.array_equal(one.latent, alone.latent)


def test_node_says_what_it_cannot_do(server):
    """Basic Guider has nothing to combine; a CFG++ sampler needs both passes."""
    *_, basic, g = run(server, lambda g, m: custom_sampler(g, cfg_combine(g, m, SCALE), "basic", 1.0))
    assert "no negative condition" in said(basic)

    def cfg_pp(g, model):
        window = schedule(g, "interval", "step", start=0.5, end=1.0)
        return ksampler(g, cfg_combine(g, model, 1.5, schedule=window), sampler="euler_cfg_pp")

    reading, result, _ = run(server, cfg_pp)
    assert reading.passes == 12
    assert "needs both passes" in said(result)
    *_, dual, _ = run(server, lambda g, m: custom_sampler(g, cfg_combine(g, m, SCALE), "dual_nested", SCALE))
    assert "its own two scales" in said(dual)


@pytest.mark.parametrize("scale", [5.5, 1.0, 0.0])
def test_the_cfg_slot_of_another_node_keeps_working(server, scale):
    """RescaleCFG acts on our scale as on the sampler's own."""
    ours, *_ = run(server, lambda g, m: ksampler(g, cfg_combine(g, g.RescaleCFG(model=m, multiplier=0.7), scale), 7.0))
    core, *_ = run(server, lambda g, m: ksampler(g, g.RescaleCFG(model=m, multiplier=0.7), scale))
    if scale == 1.0:  # there ComfyUI hands the slot zeros, and we the conditional: equal up to rounding
        np.testing.assert_allclose(ours.latent, core.latent, atol=1e-5 * np.abs(core.latent).max())
    else:
        assert np.array_equal(ours.latent, core.latent)


@pytest.mark.parametrize("scale", [5.5, 0.0])
def test_a_post_cfg_hook_of_another_node_keeps_working(server, scale):
    """PAG adds its own term and runs its own passes, which are told apart from those of CFG."""

    def pag(g, m):
        return g.PerturbedAttentionGuidance(model=m, scale=3.0)

    ours, result, _ = run(server, lambda g, m: ksampler(g, cfg_combine(g, pag(g, m), scale), 7.0))
    core, *_ = run(server, lambda g, m: ksampler(g, pag(g, m), scale))
    assert np.array_equal(ours.latent, core.latent)
    assert ours.passes == core.passes == 18
    assert "12 of 12 passes.\nHooks of other nodes ran 6 more: PerturbedAttentionGuidance 6." in said(result)


def test_a_pre_cfg_hook_outside_the_window_sees_no_guidance(server):
    """APG reads the unconditional; where it is left out it must see no difference, not a prediction of zeros."""

    def build(g, model):
        apg = g.APG(model=model, eta=1.0, norm_threshold=0.0, momentum=0.0)
        window = schedule(g, "interval", "step", start=1.0, end=1.0)
        return ksampler(g, cfg_combine(g, apg, 1.001, schedule=window), 7.0)

    hooked, *_ = run(server, build)
    plain, *_ = run(server, lambda g, m: ksampler(g, m, 1.0))
    assert hooked.passes == plain.passes + 1
    assert np.abs(hooked.latent).max() < 1.5 * np.abs(plain.latent).max()


@pytest.mark.parametrize("guider", ["cfg", "dual_model"])
def test_a_sampler_that_reads_an_absent_negative_sees_no_guidance(server, guider):
    """CFG++ steps along the unconditional; from where the negative ends it is the conditional."""

    def sampled(g, model, negative=None):
        patched = cfg_combine(g, model, 1.5)
        return custom_sampler(g, patched, guider, 1.5, sampler="euler_cfg_pp", second=model, negative=negative)

    def ends_early(g, model):
        gone = g.ConditioningSetTimestepRange(conditioning=g.ProbeCondition(seed=2), start=0.0, end=0.5)
        return sampled(g, model, gone)

    def never_there(g, model):
        return sampled(g, model)

    early, *_ = run(server, ends_early)
    whole, *_ = run(server, never_there)
    assert early.latent.std() < 1.2 * whole.latent.std()


def test_adding_a_classifier_does_not_change_whose_cfg_wins(server):
    """Of CFG Combine and ComfyUI's CFG Override the one nearest the sampler wins, a classifier behind them or not."""

    def build(classifier):
        def latent(g, model):
            model = g.CFGOverride(model=cfg_combine(g, model, 6.0), cfg=1.0, start_percent=0.0, end_percent=1.0)
            if classifier:
                made = g.ProbeClassifier(channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=fresh())
                model = classifier_guidance(g, model, made, "cat", 0.0)
            return ksampler(g, model, 4.0)

        return latent

    without, *_ = run(server, build(False))
    behind, *_ = run(server, build(True))
    assert np.array_equal(without.latent, behind.latent)
    assert without.passes == behind.passes == 6


def test_dual_model_loads_its_second_model_for_a_window_between_steps(server):
    """dpm_2 evaluates between two steps; a window that lies there alone still needs the second model."""
    g = Graph()
    model, second = (g.ProbeModel(kind="eps", seed=seed, nonce=fresh()) for seed in (0, 3))
    window = schedule(g, "interval", "step", start=0.25, end=0.35)
    latent = custom_sampler(g, cfg_combine(g, model, 5.5, schedule=window), "dual_model", 1.0, 6, "dpm_2", second)
    node = g.ProbeRead(latent=latent, model=model, second_model=second, nonce=fresh())
    assert len(read(server.run(g.prompt), node).second_calls) == 1


def test_log_snr_window_covers_the_first_step_of_a_flow_run(server):
    """A flow run begins at log-SNR minus infinity, which the open window holds."""

    def build(g, model):
        return ksampler(g, cfg_combine(g, model, 4.0, schedule=schedule(g, axis="log_snr", start=-30.0, end=30.0)))

    assert run(server, build, "flow")[0].passes == 12
