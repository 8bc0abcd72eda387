"""Corners of the CFG methods and their pipeline, where a limit, a fallback or an edge decides."""

from dataclasses import replace

import pytest
import torch
from method_examples import SOCKETS, switched_on

import guidance_core as gc
from guidance_core.cfg import Passes, Phase, Pipeline, Prediction, ScaleEvent
from guidance_core.cfg.adaptive import cosine
from guidance_core.cfg.fdg import blurred, low_frequencies
from guidance_core.cfg.feedback import TrackedRatio, feedback_scale
from guidance_core.params import params_of

METHODS = gc.cfg_methods()
SHAPE = (3, 4, 6, 5)


@pytest.fixture
def predictions(randn):
    return [randn(*SHAPE, seed=seed) for seed in range(3)]


def level(sigma=1.5, batch=3):
    return torch.full((batch,), sigma, dtype=torch.float64)


def test_cosine_of_samples(randn):
    a = randn(4, 3, 2, 2)
    turned = torch.stack([a[0], -a[1], 2 * a[2], a[3] * 0])
    torch.testing.assert_close(cosine(a, turned), torch.tensor([1.0, -1, 1, 1]).double())
    right, up = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
    right[..., 0] = up[..., 1] = 3
    assert cosine(right, up).tolist() == [0]
    assert cosine(right, right * 0).tolist() == [1]
    many = randn(500, 4, 3, 3, dtype=torch.float32)
    assert float(cosine(many, 0.3 * many).max()) == 1  # and not beyond it by rounding


def test_adaptive_guidance_at_one_never_stops(predictions):
    """Not even where both predictions are one."""
    _, cond, x = predictions
    for gamma, scale in ((1.0, 6.0), (0.99, 1.0)):
        run = Pipeline(6.0, methods=(METHODS["adaptive"](gamma=gamma),)).start(gc.Run(sigmas=(9.0, 1.0, 0.0)))
        run.combine(cond, cond, x, level(9.0), 6.0)
        assert run.scale_at(1.0) == scale


@pytest.mark.parametrize("threshold", [0.25, 1.0, 4.0])
def test_apg_caps_the_difference_at_any_threshold_above_zero(threshold, predictions):
    cond, uncond, x = predictions
    guided = gc.combine(cond, uncond, x, 1.5, 2.0, "apg", norm_threshold=threshold, eta=1.0, momentum=0.0)
    torch.testing.assert_close((guided - cond).flatten(1).norm(dim=1), torch.full((3,), threshold).double())


@pytest.mark.parametrize("method", METHODS)
def test_passes_of_a_methods_own_are_told(method):
    """None where nothing is connected; one for a model or a condition that is."""
    cls = METHODS[method]
    alone, connected = cls(), cls(**switched_on(cls, SHAPE))
    own = int(any(p.socket in ("model", "conditioning") for p in params_of(cls).values()))
    assert (alone.own_passes, connected.own_passes) == (0, own)
    assert (alone.replaces_uncond, connected.replaces_uncond) == (False, method == "autoguidance")


def test_a_pipeline_needs_what_one_of_its_methods_needs():
    weak = METHODS["autoguidance"](weak=SOCKETS["model"](SHAPE))
    standard, noisy, rescale = (METHODS[name]() for name in ("standard", "noisy_condition", "rescale"))
    cases = {
        (): (Passes(False, True), Passes(True, True)),
        (standard, noisy): (Passes(False, True), Passes(True, True)),
        (standard, rescale): (Passes(True, True), Passes(True, True)),
        (rescale, weak): (Passes(True, False), Passes(True, False)),
    }
    for methods, (at_zero, at_six) in cases.items():
        pipeline = Pipeline(6.0, methods=methods)
        run = pipeline.start(gc.Run())
        assert pipeline.replaces_uncond is (weak in methods)
        assert (run.passes(0.0), run.passes(6.0)) == (at_zero, at_six)
        assert run.passes(1.0) == Passes(True, False)
        assert run.plain is (set(methods) <= {standard})


def test_the_scale_that_methods_chose_is_recorded(predictions):
    cond, uncond, x = predictions
    events = []
    pipeline = Pipeline(6.0, methods=(METHODS["mambo_g"](alpha=2.0),))
    guided = pipeline.start(gc.Run(record=events.append)).combine(cond, uncond, x, level(), 6.0)
    (event,) = events
    assert isinstance(event, ScaleEvent)
    assert torch.equal(event.sigma, level())
    torch.testing.assert_close(guided, uncond + (cond - uncond) * event.scale)


@pytest.mark.parametrize("method", ["cfg_norm", "fdg", "regional"])
def test_methods_that_need_places_refuse_what_has_none(method, randn):
    cond, uncond, x = (randn(3, 4, 6, seed=seed) for seed in range(3))
    with pytest.raises(gc.GuidanceError, match=rf"{method} needs pictures or video.*got \[3, 4, 6\]: use another"):
        gc.combine(cond, uncond, x, 1.5, 6.0, method)


def test_a_schedule_fades_cfg_pp_as_a_whole(predictions):
    """At strength s what is guided lies s of the way from the conditional prediction to the guided one."""
    cond, uncond, x = predictions
    results = {}
    for strength in (1.0, 0.5, 0.25):
        schedule = gc.ScaleSchedule("constant", high=strength)
        pipeline = Pipeline(7.0, schedule, (METHODS["cfg_pp"](full_scale=20.0),))
        run = pipeline.start(gc.Run(sigmas=(3.0, 1.5, 0.9, 0.0)))
        results[strength] = run.combine(cond, uncond, x, level(), run.scale_of(level()))
    for strength, guided in results.items():
        torch.testing.assert_close(guided, cond + strength * (results[1.0] - cond))


def test_a_vanishing_unconditional_prediction_is_not_blown_up(predictions):
    """CFG-Zero* fits by dot(c, u) / (|u|^2 + 1e-8), which falls to nothing with u."""
    _, cond, x = predictions
    for squared in (1e-6, 1e-8, 1e-12):
        uncond = cond * (squared**0.5 / cond.flatten(1).norm(dim=1))[:, None, None, None]
        share = cond.flatten(1).norm(dim=1) * squared**0.5 / (squared + 1e-8)
        want = cond * (share * squared**0.5 / cond.flatten(1).norm(dim=1))[:, None, None, None]

        def velocity(v):
            return x - 0.6 * v  # on flow at sigma 0.6

        got = gc.combine(velocity(cond), velocity(uncond), x, 0.6, 0.0, "cfg_zero_star", gc.FLOW)
        torch.testing.assert_close(got, velocity(want), rtol=1e-5, atol=1e-7)


def test_low_frequencies_of_channels_do_not_depend_on_their_number(randn):
    a = randn(2, 4, 6, 5)
    torch.testing.assert_close(low_frequencies(a)[:, :1], low_frequencies(a[:, :1]))
    assert not torch.allclose(low_frequencies(a), a)


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (2, 3), (1, 3)])
def test_what_has_one_coarse_place_has_one_low_frequency(size, randn):
    low = low_frequencies(randn(2, 3, *size)).flatten(2)
    torch.testing.assert_close(low, low[..., :1].expand_as(low))


def test_the_blur_mirrors_at_the_edge_from_three_places_on():
    """1 4 6 4 1 over c b a b c, for the first of a b c; over a a a b b for two."""
    row = torch.tensor([1.0, 5.0, 25.0]).double()
    got = blurred(row.expand(1, 1, 3, 3).contiguous())[0, 0, 0]
    assert float(got[0]) == pytest.approx((25 + 4 * 5 + 6 * 1 + 4 * 5 + 25) / 16)
    got = blurred(row[:2].expand(1, 1, 2, 2).contiguous())[0, 0, 0]
    assert float(got[0]) == pytest.approx((1 + 4 * 1 + 6 * 1 + 4 * 5 + 5) / 16)


def test_feedback_that_trusts_the_conditional_model_never_guides(predictions):
    """mixing 1, where the scale of every log-ratio is 1, even of one whose exponential is 0."""
    assert feedback_scale(torch.tensor([-1000.0, 0.0, 3.0]), 1.0, 5.0).tolist() == [1, 1, 1]
    cond, uncond, x = predictions
    for more in ({}, {"classifier": SOCKETS["classifier"](SHAPE), "target": "dark"}):
        run = Pipeline(6.0, methods=(METHODS["feedback"](mixing=1.0, **more),)).start(gc.Run(sigmas=(9.0, 1.5, 0.0)))
        for sigma in (9.0, 1.5):
            torch.testing.assert_close(run.combine(cond, uncond, x, level(sigma), 6.0), cond)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0, -2.0])
def test_feedback_leaves_a_scale_of_one_or_less_as_it_is(scale, predictions):
    """The scale is the most that it may guide; where that is off or less there is nothing to hold back."""
    cond, uncond, x = predictions
    p = Prediction(x, level(), cond, uncond, scale)
    stage = METHODS["feedback"]().start(gc.Run(sigmas=(9.0, 1.5, 0.0)))[Phase.SCALE]
    assert stage(p) is p


def test_feedback_follows_each_sample_as_if_it_were_alone(predictions):
    sigmas = (3.0, 1.5, 1.2, 0.9, 0.0)
    pipeline = Pipeline(6.0, methods=(METHODS["feedback"](),))

    def followed(keep):
        run = pipeline.start(gc.Run(sigmas=sigmas))
        visited = (3.0, 2.0, 1.5, 1.2, 0.9)  # also between two steps
        cond, uncond, x = (prediction[keep] for prediction in predictions)
        return torch.stack([run.combine(cond, uncond, s * x, level(s, len(x)), 6.0) for s in visited])

    whole = followed(slice(None))
    for i in range(3):
        torch.testing.assert_close(followed(slice(i, i + 1)), whole[:, i : i + 1])


@pytest.mark.parametrize(("method", "socket"), [("autoguidance", "weak"), ("perp_neg", "empty")])
def test_what_has_no_say_at_a_noise_level_changes_nothing_there(method, socket, predictions):
    """As a condition that a host gives for a part of the run only."""
    cond, uncond, x = predictions
    run = gc.Run(denoiser_of=lambda source: lambda x, sigma: None)
    silent = Pipeline(6.0, methods=(METHODS[method](**{socket: object()}),)).start(run)
    torch.testing.assert_close(silent.combine(cond, uncond, x, level(), 6.0), uncond + 6 * (cond - uncond))


def test_a_prediction_without_a_schedule_is_at_full_strength(predictions):
    cond, uncond, x = predictions
    events, run = [], gc.Run(sigmas=(3.0, 1.5, 0.9, 0.0))
    method = METHODS["cfg_pp"]()
    alone = method.start(run)[Phase.SCALE](Prediction(x, level(), cond, uncond, 6.0))
    Pipeline(6.0, methods=(method,)).start(replace(run, record=events.append)).combine(cond, uncond, x, level(), 6.0)
    torch.testing.assert_close(alone.scale, events[0].scale)


def test_tcfg_is_plain_guidance_at_pure_noise_to_the_last_bit(predictions):
    """Where the score of both predictions is that of the noise alone."""
    for dtype in (torch.float32, torch.float64):
        cond, uncond, x = (t.to(dtype) for t in predictions)
        guided, plain = (gc.combine(cond, uncond, x, 1.0, 6.0, name, gc.FLOW) for name in ("tcfg", "standard"))
        assert torch.equal(guided, plain)


@pytest.mark.parametrize("channels", ["1, 2", "1, 1, 1, 1, 1", "0.5"])
def test_channels_of_another_model_are_refused(channels, predictions):
    count = len(channels.split(","))
    with pytest.raises(gc.GuidanceError, match=f"channels has {count} numbers, this model 4 latent channels: give one"):
        gc.combine(*predictions, 1.5, 6.0, "regional", channels=channels)


@pytest.mark.parametrize("period", [4, 8])
def test_a_mask_finer_than_the_picture_counts_by_its_area(period, randn):
    """One white line in so many, each thinner than a place of the picture: away from the edge it is an even grey."""
    mask = torch.zeros(12 * period, 10 * period)
    mask[::period] = 1
    cond, uncond = (randn(1, 2, 12, 10, seed=seed) for seed in range(2))
    got = gc.combine(cond, uncond, cond, 1.5, 5.0, "regional", mask=mask, outside=0.0)
    want = gc.combine(cond, uncond, cond, 1.5, 1 + 4 / period)
    torch.testing.assert_close(got[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1], rtol=0, atol=1e-5)


def test_feedback_refuses_an_unknown_target_when_it_is_made():
    with pytest.raises(gc.GuidanceError, match="no label 'cat'"):
        METHODS["feedback"](classifier=SOCKETS["classifier"](SHAPE), target="cat")


def tracked(sigmas, visited, run=None):
    """The log-ratio after calls at these levels, where both predictions are one, so that only the drift moves it."""
    x = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    ratio = TrackedRatio(run or gc.Run(sigmas=sigmas), 0.9, 0.5, 0.35)
    for sigma in visited:
        log_ratio = ratio(Prediction(x, level(sigma, 2), x, x, 6.0), -100.0)
    return log_ratio.tolist()


def test_the_drift_of_feedback_goes_by_the_share_of_a_step():
    sigmas = (8.0, 4.0, 2.0, 1.0, 0.0)
    one = tracked(sigmas, (8.0, 4.0))
    assert one[0] != 0
    assert tracked(sigmas, (8.0, 7.0, 5.0, 4.0)) == pytest.approx(one)
    assert tracked(sigmas, (8.0, 4.0, 4.0, 2.0)) == pytest.approx([2 * r for r in one])
    assert tracked(None, (8.0, 4.0), gc.Run()) == [0, 0]  # of an unknown run nothing is known


def test_feedback_follows_a_flow_run_from_pure_noise(randn):
    guided = gc.cfg_guided(lambda x, s: 0.5 * x, lambda x, s: 0.4 * x.flip(-1), 4.0, method="feedback", path=gc.FLOW)
    assert bool(gc.sample(guided, randn(2, 4, 6, 5), gc.flow_shift(5), "euler", path=gc.FLOW).isfinite().all())


def test_a_sample_that_is_settled_is_left_alone_by_what_acts_on_the_result(predictions):
    """Thresholds that clip half of every sample, beside adaptive guidance; what a term adds they see, as at scale 1."""
    cond, uncond, x = predictions
    uncond = torch.cat([cond[:1], uncond[1:]])  # the first sample agrees
    methods = METHODS["adaptive"](gamma=0.9999), METHODS["dynamic_threshold"](percentile=0.5, mimic_scale=0.0)
    sigma = level()
    run = Pipeline(6.0, methods=methods).start(gc.Run())
    for _ in range(2):
        settled = run.combine(cond, uncond, x, sigma, 6.0)
    assert torch.equal(settled[0], cond[0])
    assert not torch.equal(settled[1], (uncond + 6 * (cond - uncond))[1])
    moved = run.combine(cond, uncond, x, sigma, 6.0, lambda guided: guided + 1)
    assert not torch.equal(moved[0], cond[0] + 1) and moved[0].abs().max() < (cond[0] + 1).abs().max()
