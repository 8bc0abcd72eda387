"""Runs that do not simply fall: a latent that grows, a level that rises, flipped sigmas, restarts."""

import pytest
import torch
from method_examples import switched_on

import guidance_core as gc
from guidance_core.cfg import Pipeline
from guidance_core.cfg.cfg_zero_star import first_steps
from guidance_core.run import Continuity, Cursor, percent_of_training

METHODS = gc.cfg_methods()
FALLING, RISING = (10.0, 5.0, 2.0, 1.0, 0.0), (0.03, 0.5, 2.0, 5.0, 10.0)
RESTART = (10.0, 5.0, 2.0, 5.0, 2.0, 0.0)
PERCENT = dict(zip((0.0, 1.0, 2.0, 5.0, 10.0), (1.0, 0.6, 0.4, 0.2, 0.05), strict=True)).get


@pytest.fixture
def guided_run(randn):
    """guided_run(method, sigmas): one open run of a method with its parameters on, and an x for a shape and level."""

    def cond(x, sigma):
        return 0.5 * x + 0.1

    def uncond(x, sigma):
        return 0.4 * x.flip(-1)

    def at(sigma, size=6, dtype=torch.float64, seed=0):
        return (sigma * randn(3, 4, size, 6, seed=seed)).to(dtype), torch.full((3,), sigma, dtype=torch.float64)

    def start(method, sigmas=FALLING):
        chosen = switched_on(METHODS[method], (3, 4, 6, 6))
        return gc.cfg_guided(cond, uncond, 5.0, method=method, **chosen).start(gc.Run(sigmas=sigmas))

    return start, at


BROKEN = {  # the calls before, and the calls to which what was kept at those does not belong
    "it grows": ([(10.0,), (5.0,)], [(2.0, 8), (1.0, 8)]),
    "another dtype": ([(10.0,), (5.0,)], [(2.0, 6, torch.float32), (1.0, 6, torch.float32)]),
    "the level rises": ([(10.0,), (5.0,), (2.0,)], [(5.0,), (2.0,), (1.0,)]),
    "a run within": ([(10.0,), (5.0,), (2.0,), (1.0,)], [(10.0,), (5.0,), (2.0,)]),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_go_on_is_as_in_a_fresh_run(method, case, guided_run):
    start, at = guided_run
    before, after = BROKEN[case]
    run, fresh = start(method), start(method)
    for i, call in enumerate(before):
        run(*at(*call, seed=i))
    for i, call in enumerate(after):
        x = at(*call, seed=10 + i)
        assert torch.equal(run(*x), fresh(*x))


@pytest.mark.parametrize("sigmas", [FALLING, RISING])
@pytest.mark.parametrize("method", ["apg", "momentum"])
def test_what_goes_on_is_kept_in_the_runs_own_direction(method, sigmas, guided_run):
    """Also at a level that is called twice, as by samplers of the second order."""
    start, at = guided_run
    run, fresh = start(method, sigmas), start(method, sigmas)
    run(*at(sigmas[1]))
    for level in (sigmas[1], sigmas[2]):
        x = at(level, seed=1)
        assert not torch.allclose(run(*x), start(method, sigmas)(*x))
        fresh(*x)


def test_a_settled_sample_is_guided_again_after_a_restart(counted, guided_run):
    _, at = guided_run
    uncond = counted(lambda x, sigma: 0.5 * x)
    run = gc.cfg_guided(lambda x, sigma: 0.5 * x, uncond, 5.0, method="adaptive", gamma=0.5).start(gc.Run())
    for level in (10.0, 5.0, 2.0, 10.0, 5.0):
        run(*at(level))
    assert uncond.calls == [10.0, 10.0]


@pytest.mark.parametrize("sigmas", [FALLING, RISING, RESTART, (5.0, 2.0, 5.0, 2.0, 5.0, 0.0)])
def test_steps_are_counted_in_the_order_of_the_run(sigmas):
    run, cursor = gc.Run(sigmas=sigmas), Cursor(gc.Run(sigmas=sigmas))
    n = len(sigmas) - 1
    assert [cursor.step(level) for level in sigmas[:-1]] == list(range(n))
    if sigmas[:-1].count(sigmas[0]) == 1:  # and so again in a second pass, whose beginning can be told
        assert [cursor.step(level) for level in sigmas[:-1]] == list(range(n))
    assert [run.step(level, after=i) for i, level in enumerate(sigmas[:-1])] == list(range(n))
    assert [run.level_after(level, after=i) for i, level in enumerate(sigmas[:-1])] == list(sigmas[1:])
    again = Cursor(run)
    for i, (a, b) in enumerate(zip(sigmas[:-2], sigmas[1:-1], strict=True)):
        calls = (a * (1 + 3e-7), a, (3 * a + b) / 4, (a + b) / 2, b)  # single precision, between, ahead
        assert [again.step(level) for level in calls] == pytest.approx([i, i, i + 0.25, i + 0.5, i + 1])


def test_a_run_that_rises_has_one_place_for_each_level():
    run = gc.Run(sigmas=RISING)
    assert [run.step(level) for level in RISING[:-1]] == [0, 1, 2, 3]
    assert (run.step(1.25), run.step(0.01), run.step(7.0), run.step(20.0)) == (1.5, 0, 3, 3)
    assert (run.level_after(1.25), run.level_after(5.0), run.level_after(10.0)) == (2.0, 10.0, 0.0)
    assert not run.begins_in_noise
    assert run.rises and not gc.Run(sigmas=FALLING).rises and not gc.Run(sigmas=RESTART).rises and not gc.Run().rises


def test_a_level_that_a_run_visits_twice_is_refused_without_its_order():
    run = gc.Run(sigmas=RESTART)
    assert (run.step(10.0), run.step(7.5), run.step(1.0)) == (0, 0.5, 4)
    with pytest.raises(
        gc.GuidanceError, match="at sigma 5 more than once, first at step 1, last at 3: say after which"
    ):
        run.step(5.0)
    assert [run.step(5.0, after=after) for after in (0.0, 1.0, 1.5, 3.0, 3.5)] == [1, 1, 3, 3, 1]


@pytest.mark.parametrize("sigmas", [FALLING, RISING, RESTART])
@pytest.mark.parametrize("preserve_mean", [False, True])
def test_a_schedule_over_steps_goes_by_the_order_of_the_run(sigmas, preserve_mean):
    n, run = len(sigmas) - 1, gc.Run(sigmas=sigmas)
    ramp = gc.ScaleSchedule("linear", preserve_mean=preserve_mean).over(run)
    assert [ramp(level) for level in sigmas[:-1]] == pytest.approx(
        [(i / (n - 1)) * (1 + preserve_mean) for i in range(n)]
    )
    half = gc.ScaleSchedule("interval", 0.0, 0.4, preserve_mean=preserve_mean).over(run)
    assert [half(level) > 0 for level in sigmas[:-1]] == [i / (n - 1) <= 0.4 for i in range(n)]
    guided = gc.cfg_guided(lambda x, s: x, lambda x, s: 0 * x, 2.0, gc.ScaleSchedule("linear")).start(run)
    x = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    assert [float(guided(x, level).mean()) for level in sigmas[:-1]] == pytest.approx(
        [1 + i / (n - 1) for i in range(n)]
    )


def test_zero_star_waits_at_the_first_steps_of_the_run_alone(randn):
    """And not where a restart visits their levels again."""
    sigmas = (100.0, 50.0, 20.0, 50.0, 20.0, 1.0, 0.0)
    method = METHODS["cfg_zero_star"](zero_init=0.3)
    run = Pipeline(4.0, methods=(method,)).start(gc.Run(sigmas=sigmas))
    cond, uncond, x = (randn(2, 4, 6, 5, seed=seed) for seed in range(3))
    waits = []
    for sigma in sigmas[:-1]:
        level = torch.full((2,), sigma, dtype=torch.float64)
        waits.append(torch.equal(run.combine(cond, uncond, x, level, 4.0), x))  # eps of 0
    assert waits == [True, True, False, False, False, False]


@pytest.mark.parametrize(("share", "steps", "first"), [(0.07, 100, 7), (0.04, 50, 2), (0.04, 30, 2), (0.01, 5, 1)])
def test_a_share_of_the_steps_is_counted_without_rounding_up_once_too_often(share, steps, first):
    for whole in range(1, 101):
        assert first_steps(whole / 200, 200) == whole
    assert first_steps(share, steps) == first and first_steps(0.0, steps) == 0


def test_cfg_pp_goes_to_the_next_level_of_the_run(randn):
    """Where the level rises, as in unsampling, CFG++ is lam a' s / (a' s - s' a) all the same."""
    cond, uncond, x = (randn(2, 4, 6, 5, seed=seed) for seed in range(3))
    for sigmas, i in ((FALLING, 1), (RISING, 2), (RESTART, 2), (RESTART, 3)):
        run = Pipeline(6.0, methods=(METHODS["cfg_pp"](full_scale=12.0),)).start(gc.Run(sigmas=sigmas))
        for sigma in sigmas[: i + 1]:
            guided = run.combine(cond, uncond, x, torch.full((2,), sigma, dtype=torch.float64), 6.0)
        weight = 0.5 * sigmas[i] / (sigmas[i] - sigmas[i + 1])
        torch.testing.assert_close(guided, uncond + weight * (cond - uncond))


def test_feedback_follows_a_run_that_rises_or_restarts(guided_run):
    start, at = guided_run
    for sigmas in (RISING, RESTART):
        run = gc.cfg_guided(lambda x, s: 0.5 * x, lambda x, s: 0.4 * x, 5.0, method="feedback")
        run = run.start(gc.Run(sigmas=sigmas))
        assert all(bool(run(*at(level)).isfinite().all()) for level in sigmas[:-1])


def test_an_open_window_on_the_percent_axis_is_the_runs_own():
    """As on the other axes: from the first level of the run to its last; of an unknown run the model's."""
    ramp = gc.ScaleSchedule("linear", axis="percent")
    strength = ramp.over(gc.Run(sigmas=(5.0, 2.0, 1.0, 0.0), percent=PERCENT))
    assert [strength(level) for level in (5.0, 2.0, 1.0)] == pytest.approx([0.0, 0.5, 1.0])
    explicit = gc.ScaleSchedule("linear", 0.0, 1.0, axis="percent")
    strength = explicit.over(gc.Run(sigmas=(5.0, 2.0, 1.0, 0.0), percent=PERCENT))
    assert [strength(level) for level in (5.0, 2.0, 1.0)] == pytest.approx([0.2, 0.4, 0.6])
    assert ramp(0.25) == 0.25


@pytest.mark.parametrize(
    ("sigmas", "noise", "rises"),
    [
        (None, False, False),
        ((80.0, 1.0, 0.0), True, False),
        ((12.0, 1.0, 0.0), True, False),  # log-SNR -4.97
        ((9.0, 1.0, 0.0), False, False),  # -4.39
        ((5.0, 1.0, 2.0), False, False),  # it restarts, but ends below where it began
        ((1.0, 5.0, 1.0), False, False),
        ((0.1, 2.0, 80.0), False, True),
    ],
)
def test_where_a_run_begins_and_whether_it_rises(sigmas, noise, rises):
    run = gc.Run(sigmas=sigmas)
    assert run.begins_in_noise is noise and run.rises is rises


def test_a_hosts_percent_says_whether_a_run_begins_in_noise():
    for first, noise in ((100.0, True), (98.0, False)):
        assert gc.Run(sigmas=(first, 50.0, 0.0), percent=lambda sigma: 1 - sigma / 100).begins_in_noise is noise


def test_the_level_after_is_one_that_can_be_told_apart():
    assert gc.Run().level_after(3.0) == 0.0
    assert gc.Run(sigmas=(80.0, 5.0, 0.0)).level_after(80.0) == 5.0
    assert gc.Run(sigmas=(80.0, 80.0 - 4e-5, 1.0, 0.0)).level_after(80.0) == 1.0  # the same in single precision


def test_what_a_run_cannot_be_or_give_is_a_sentence(randn):
    with pytest.raises(gc.GuidanceError, match="path must be a NoisePath.*got 've'"):
        gc.Run(path="ve")
    with pytest.raises(gc.GuidanceError, match="conditional prediction.*terms="):
        gc.Run().conditional(randn(1, 1, 2, 2), torch.ones(1))
    assert gc.Run().seed == 0


def test_the_last_of_two_steps_is_at_the_end_of_the_axis():
    run = gc.Run(sigmas=(2.0, 1.0, 0.0))
    assert [run.position("step", sigma) for sigma in (2.0, 1.0)] == [0.0, 1.0]
    assert gc.Run(sigmas=(2.0, 0.0)).position("step", 2.0) == 0.0


def test_the_first_call_of_a_run_goes_on_and_one_that_turns_back_does_not(randn):
    x = randn(1, 1, 2, 2)
    seen = Continuity(gc.Run(sigmas=(2.0, 1.0, 0.0)))
    assert [seen.goes_on(x, [level]) for level in (2.0, 1.0, 1.0, 2.0, 1.0)] == [True, True, True, False, True]
    assert not seen.goes_on(x.float(), [0.5])
    batch, two = Continuity(gc.Run()), randn(2, 1, 2, 2)
    steps = ([80.0, 80.0], [80.00004, 80.0], [1.0, 0.5], [1.0, 0.6])
    assert [batch.goes_on(two, levels) for levels in steps] == [True, True, True, False]
    assert not batch.goes_on(randn(3, 1, 2, 2), [0.1, 0.1, 0.1])


def test_the_percent_of_training_is_even_over_its_levels():
    percent = percent_of_training(torch.tensor([0.5, 1.0, 4.0]))
    assert [percent(sigma) for sigma in (0.5, 1.0, 2.0, 4.0)] == pytest.approx([1.0, 0.5, 0.25, 0.0])
