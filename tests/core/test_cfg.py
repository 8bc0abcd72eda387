"""CFG: laws that every method keeps with its parameters switched on, each method's formula, passes and the pipeline."""

import itertools
from dataclasses import dataclass, fields

import pytest
import torch
from method_examples import switched_on

import guidance_core as gc
from devtools.measure_methods import SCALE
from guidance_core.cfg import Method, Phase, Pipeline
from guidance_core.cfg.noisy_condition import draw_of
from guidance_core.parameterizations import EPS, VELOCITY, Edm, V
from guidance_core.params import params_of
from guidance_core.tensors import seeded_noise

SHAPES = [(3, 4, 6, 5), (3, 4, 2, 6, 5)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
METHODS = gc.cfg_methods()
PLAIN = ("standard", {})


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def predictions(randn):
    """predictions(shape, dtype, path, sigma): cond, uncond and x of believable sizes."""

    def make(shape=SHAPES[0], dtype=torch.float64, path=gc.VE, sigma=1.5, seed=0):
        x0, noise = randn(*shape, seed=seed), randn(*shape, seed=seed + 1)
        x = path.alpha(sigma) * x0 + sigma * noise
        cond, uncond = (x0 + 0.4 * randn(*shape, seed=seed + i) for i in (2, 3))
        return tuple(t.to(dtype) for t in (cond, uncond, x))

    return make


def combined(method, cond, uncond, x, sigma=1.5, scale=6.0, path=gc.VE, **more):
    return gc.combine(cond, uncond, x, sigma, scale, method, path, **switched_on(METHODS[method], x.shape), **more)


def test_standard_comes_first_and_every_method_says_what_it_is():
    assert next(iter(METHODS)) == "standard"
    for name, cls in METHODS.items():
        assert cls.name == name
        assert all(getattr(cls, word).strip() for word in ("title", "doc", "source"))
        assert len(params_of(cls)) == len(fields(cls)), "a field that is no declared parameter"


def test_switched_on_methods_differ_from_plain_guidance(method, predictions):
    """At the first call of a run or at the second: adaptive guidance and momentum act from what they saw before."""
    cond, uncond, x = predictions()
    chosen = switched_on(METHODS[method], x.shape)
    runs = [Pipeline(6.0, methods=(METHODS[name](**on),)).start(gc.Run()) for name, on in ((method, chosen), PLAIN)]
    sigma = torch.full((3,), 1.5, dtype=torch.float64)
    first, second = ([run.combine(cond, uncond, x, sigma, run.scale_of(sigma)) for run in runs] for _ in range(2))
    difference = max(float((ours - plain).abs().max()) for ours, plain in (first, second))
    assert (difference > 0.01) == (method != "standard")


@pytest.mark.parametrize("shape", SHAPES, ids=["4d", "5d"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_shape_and_dtype_are_kept(method, shape, dtype, predictions):
    cond, uncond, x = predictions(shape, dtype)
    for sigma in (1.5, torch.tensor(1.5), torch.full((3,), 1.5, dtype=torch.float32)):
        result = combined(method, cond, uncond, x, sigma)
        assert (result.shape, result.dtype) == (shape, dtype)
        assert bool(result.isfinite().all())
    exact = combined(method, *(t.double() for t in (cond, uncond, x)))
    tolerance = {torch.float16: 0.05, torch.bfloat16: 0.4, torch.float32: 1e-4, torch.float64: 1e-9}[dtype]
    assert float((result.double() - exact).abs().max()) < tolerance


@pytest.mark.parametrize("shape", SHAPES, ids=["4d", "5d"])
def test_batch_mates_do_not_matter(method, shape, predictions):
    first, second = predictions(shape), predictions(shape, seed=50)
    mixed = [torch.cat([b[:1] * 9, a[1:2], b[2:] * 9]) for a, b in zip(first, second, strict=True)]
    whole = combined(method, *first)
    torch.testing.assert_close(combined(method, *mixed)[1], whole[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(combined(method, *(t[:1] for t in first)), whole[:1], rtol=0, atol=1e-12)


def test_samples_of_a_batch_may_be_at_their_own_noise_levels(method, predictions):
    cond, uncond, x = predictions()
    sigma = torch.tensor([0.5, 1.5, 7.0], dtype=torch.float64)
    result = combined(method, cond, uncond, x, sigma)
    for i, level in enumerate(sigma):
        torch.testing.assert_close(result[i], combined(method, cond, uncond, x, level)[i])


def test_inputs_are_left_as_they_are(method, predictions):
    inputs = predictions()
    before = [t.clone() for t in inputs]
    combined(method, *inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


def test_scale_one_is_off(method, predictions):
    cond, uncond, x = predictions()
    assert torch.equal(combined(method, cond, uncond, x, scale=1.0), cond)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"noisy_condition"}))  # which adds its noise all the same
def test_where_both_predictions_agree_there_is_nothing_to_guide(name, dtype, path, predictions):
    """At its defaults no method makes more, or less, of what both say."""
    cond, _, x = predictions(dtype=dtype, path=path, sigma=0.5)
    torch.testing.assert_close(gc.combine(cond, cond, x, 0.5, 6.0, name, path), cond)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize(("path", "sigma"), [(gc.VE, 0.03), (gc.VE, 14.6), (gc.FLOW, 0.02), (gc.FLOW, 1.0)])
@pytest.mark.parametrize("scale", [0.0, 6.0])
def test_finite_for_equal_predictions_and_for_zeros(method, dtype, path, sigma, scale, predictions):
    """Also at pure noise on the flow path, where every flow run begins and alpha is 0."""
    cond, uncond, x = predictions(dtype=dtype, path=path, sigma=sigma)
    zeros = torch.zeros_like(x)
    for triple in ((cond, uncond, x), (cond, cond, x), (x, x, x), (zeros, zeros, x), (zeros, zeros, zeros)):
        assert bool(combined(method, *triple, sigma, scale, path).isfinite().all())


def test_two_runs_are_bit_equal(method, mixture):
    """Nothing leaks from one run into the next, though state lives between the calls of one."""
    labels = torch.tensor([0, 1, 2])
    chosen = switched_on(METHODS[method], (3, 2, 2, 1))
    chosen |= {"channels": "1, 2"} if "channels" in chosen else {}
    guided = gc.cfg_guided(mixture.denoiser(gc.VE, labels), mixture.denoiser(gc.VE), 3.0, method=method, **chosen)
    noise, sigmas = mixture.noise(3, seed=1), gc.karras(0.05, 20, 8)
    first = gc.sample(guided, noise, sigmas, "heun")
    assert torch.equal(gc.sample(guided, noise, sigmas, "heun"), first)
    assert torch.equal(guided(noise, 5.0), guided(noise, 5.0))


def test_two_open_runs_do_not_share_state(method, predictions):
    cond, uncond, x = predictions()
    sigma = torch.full((3,), 1.5, dtype=torch.float64)
    pipeline = Pipeline(6.0, methods=(METHODS[method](**switched_on(METHODS[method], x.shape)),))
    calm, left, right = (pipeline.start(gc.Run(sigmas=(9.0, 3.0, 1.5, 1.0, 0.0))) for _ in range(3))
    falling = [sigma * factor for factor in (2, 1, 0.5)]
    want = [calm.combine(cond, uncond, x, level, 6.0) for level in falling]
    for level, expected in zip(falling, want, strict=True):  # in turn
        assert torch.equal(left.combine(cond, uncond, x, level, 6.0), expected)
        assert torch.equal(right.combine(cond, uncond, x, level, 6.0), expected)


BOUNDED = [
    (name, parameter, value)
    for name, cls in METHODS.items()
    for parameter, param in params_of(cls).items()
    if param.kind in (float, int)
    for value in (param.low - 1, param.high + 1, float("nan"))
]


@pytest.mark.parametrize(("name", "parameter", "value"), BOUNDED)
def test_values_out_of_range_are_refused_by_name(name, parameter, value, predictions):
    with pytest.raises(gc.GuidanceError, match=rf"^{parameter} must be in \[.*\], got {value}\.$"):
        gc.combine(*predictions(), 1.5, 6.0, name, **{parameter: value})


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"method": "magic"}, "no CFG method 'magic'; choose one of standard, "),
        ({"method": "rescale", "amount": 1}, "rescale has no parameter 'amount': it takes rescale"),
        ({"amount": 1}, "standard has no parameter 'amount': it takes no parameters"),
        ({"method": "rescale", "rescale": "0.5"}, "rescale must be a number, got '0.5'"),
        ({"scale": float("nan")}, r"scale must be in \[-100, 100\], got nan"),
        ({"scale": "7"}, "scale must be a number, got '7'"),
        ({"method": "regional", "channels": "1, x"}, "channels must be numbers by comma, .* got '1, x'"),
        ({"method": "feedback", "target": "cat"}, "the target 'cat' needs a classifier"),
    ],
)
def test_refusals_name_what_was_given(call, sentence, predictions):
    call = {"scale": 6.0} | call
    with pytest.raises(gc.GuidanceError, match=sentence):
        gc.combine(*predictions(), 1.5, **call)
    with pytest.raises(gc.GuidanceError, match=sentence):
        gc.cfg_guided(lambda x, s: x, lambda x, s: x, **call)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 7.5])
def test_standard_is_ho_and_salimans(scale, predictions):
    """(1 + w') cond - w' uncond with w' = scale - 1 (arXiv:2207.12598)."""
    cond, uncond, x = predictions()
    torch.testing.assert_close(gc.combine(cond, uncond, x, 1.5, scale), scale * cond - (scale - 1) * uncond)


# each native space: (path, sigma, the space's name in the core, its output -> denoised, from the papers)
NATIVE = {
    "eps on VE": (gc.VE, 1.5, EPS, lambda x, out, s: x - s * out),
    "eps on VP": (gc.VP, 0.6, EPS, lambda x, out, s: (x - s * out) / 0.8),
    "v on VE": (gc.VE, 1.5, V, lambda x, out, s: x / (1 + s**2) - s / (1 + s**2) ** 0.5 * out),
    "v on VP": (gc.VP, 0.6, V, lambda x, out, s: 0.8 * x - s * out),
    "velocity": (gc.FLOW, 0.6, VELOCITY, lambda x, out, s: x - s * out),
    "EDM": (gc.VE, 1.5, Edm(0.5), lambda x, out, s: (0.25 * x + 0.5 * s * (s**2 + 0.25) ** 0.5 * out) / (s**2 + 0.25)),
}


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("phi", [0.0, 0.35, 1.0])
def test_rescale_is_its_formula_in_the_models_own_space(native, phi, randn):
    """arXiv:2305.08891, eq. 15-16, on the network's output, sample by sample."""
    path, sigma, space, denoised = NATIVE[native]
    x, cond, uncond = (randn(*SHAPES[0], seed=seed) for seed in range(3))
    uncond = uncond + torch.tensor([0.0, 2.0, 5.0])[:, None, None, None]
    guided = uncond + 6 * (cond - uncond)
    rescaled = torch.stack([g * c.std() / g.std() for g, c in zip(guided, cond, strict=True)])
    want = denoised(x, phi * rescaled + (1 - phi) * guided, sigma)
    got = gc.combine(
        denoised(x, cond, sigma), denoised(x, uncond, sigma), x, sigma, 6.0, "rescale", path, space, rescale=phi
    )
    torch.testing.assert_close(got, want)


def test_the_space_defaults_to_eps_on_ve_and_vp_and_velocity_on_flow(path, predictions):
    cond, uncond, x = predictions(path=path, sigma=0.5)
    arguments = (cond, uncond, x, 0.5, 6.0, "rescale", path)
    assert torch.equal(gc.combine(*arguments), gc.combine(*arguments, VELOCITY if path is gc.FLOW else EPS))
    guided = gc.cfg_guided(lambda x, s: cond, lambda x, s: uncond, 6.0, method="rescale", path=path, output=V)
    assert torch.equal(guided(x, 0.5), gc.combine(*arguments, V))


@pytest.mark.parametrize("size", [0.0, 0.3])
@pytest.mark.parametrize("scale", [0.5, 6.0])
def test_noisy_condition_is_its_formula_in_eps(path, size, scale, randn):
    sigma, (x, cond, uncond) = 0.6, (randn(*SHAPES[0], seed=seed) for seed in range(3))
    alpha = float(path.alpha(sigma))

    def denoised(eps):
        return (x - sigma * eps) / alpha

    z = seeded_noise(x, 11, [draw_of(sigma)] * 3)
    want = denoised(uncond + scale * (cond + size * z - uncond))
    got = gc.combine(denoised(cond), denoised(uncond), x, sigma, scale, "noisy_condition", path, seed=11, noise=size)
    torch.testing.assert_close(got, want)


def test_noise_of_a_run_is_normal_new_at_each_call_and_set_by_the_seed(randn):
    x = randn(2, 4, 64, 64)
    draws = [seeded_noise(x, seed, [draw] * 2) for seed, draw in ((0, 0), (0, 1), (1, 0))]
    for z in draws:
        assert float(z.mean()) == pytest.approx(0, abs=0.03)
        assert float(z.std()) == pytest.approx(1, abs=0.03)
    samples = torch.cat(draws).flatten(1)
    assert float((torch.corrcoef(samples) - torch.eye(6)).abs().max()) < 0.05
    assert torch.equal(seeded_noise(x, 0, [1, 1]), draws[1])


def test_noisy_condition_draws_anew_at_each_noise_level(predictions):
    """And the same again in a second run over the rest of the levels."""
    cond, uncond, x = predictions()
    pipeline = Pipeline(6.0, methods=(METHODS["noisy_condition"](noise=0.5),))
    high, low = (torch.full((3,), level, dtype=torch.float64) for level in (1.5, 1.4999))
    run = pipeline.start(gc.Run(sigmas=(1.5, 1.4999, 0.0)))
    first, second = (run.combine(cond, uncond, x, level, 6.0) for level in (high, low))
    assert float((first - second).abs().max()) > 1
    rest = pipeline.start(gc.Run(sigmas=(1.4999, 0.0)))
    assert torch.equal(rest.combine(cond, uncond, x, low, 6.0), second)


NEUTRAL = {  # the parameters at which a method is plain guidance
    "rescale": {"rescale": 0.0},
    "noisy_condition": {"noise": 0.0},
    "apg": {"eta": 1.0, "norm_threshold": 0.0, "momentum": 0.0},
    "momentum": {"momentum": 0.0},
    "perp_neg": {},
    "autoguidance": {},
    "mambo_g": {"alpha": 0.0},
    "fdg": {"low": 1.0},
    "regional": {"outside": 1.0},
    "adaptive": {"gamma": 1.0},
    "cfg_norm": {"strength": 0.0},
    "dynamic_threshold": {"mimic_scale": 6.0, "percentile": 1.0},
}


@pytest.mark.parametrize("method", NEUTRAL)
def test_neutral_parameters_are_plain_guidance(path, method, predictions):
    cond, uncond, x = predictions(path=path, sigma=0.5)
    plain = gc.combine(cond, uncond, x, 0.5, 6.0, path=path)
    torch.testing.assert_close(gc.combine(cond, uncond, x, 0.5, 6.0, method, path, **NEUTRAL[method]), plain)


SIGMAS = torch.tensor([10.0, 6.0, 4.0, 2.5, 1.5, 0.9, 0.5, 0.2, 0.0])
INTERVAL = gc.ScaleSchedule("interval", 5.0, 0.5, axis="sigma")


@pytest.fixture
def passes(counted, randn):
    """passes(scale, schedule, method): the sigmas of the conditional and the unconditional passes of one run."""

    def run(scale, schedule=None, method="standard", sampler="euler"):
        cond, uncond = counted(lambda x, s: x * 0.5), counted(lambda x, s: x.flip(-1) * 0.4)
        guided = gc.cfg_guided(cond, uncond, scale, schedule, method)
        gc.sample(guided, randn(2, 1, 2, 2), SIGMAS, sampler)
        return [[round(s, 4) for s in d.calls] for d in (cond, uncond)]

    return run


def test_scale_one_runs_only_the_conditional_pass(method, passes):
    cond, uncond = passes(1.0, method=method)
    assert (len(cond), len(uncond)) == (8, 0)
    assert passes(1.0 + 5e-7, method=method) == [cond, uncond]


@pytest.mark.parametrize("method", ["standard", "noisy_condition", "cfg_pp", "feedback"])
def test_scale_zero_runs_only_the_unconditional_pass(method, passes):
    cond, uncond = passes(0.0, method=method)
    assert (len(cond), len(uncond)) == (0, 8)


def test_cfg_pp_that_a_schedule_brings_to_zero_needs_both(passes):
    """Where it fades: its own scale is then another."""
    assert [len(calls) for calls in passes(-1.0, gc.ScaleSchedule(high=0.5), "cfg_pp")] == [8, 8]
    assert [len(calls) for calls in passes(-1.0, gc.ScaleSchedule(high=0.5), "standard")] == [0, 8]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_what_needs_no_conditional_pass_at_scale_zero_is_the_unconditional_prediction(name, scale, predictions):
    """Of a scale of 0, and of one that a schedule brings there. (Adaptive guidance needs both to see them agree.)"""
    cond, uncond, x = predictions()
    method = METHODS[name](**switched_on(METHODS[name], x.shape))
    run = Pipeline(scale, gc.ScaleSchedule(high=1 / (1 - scale)), (method,)).start(gc.Run(sigmas=(9.0, 1.5, 0.0)))
    guided = run.combine(cond, uncond, x, torch.full((3,), 1.5, dtype=torch.float64), 0.0)
    assert run.passes(0.0).cond == (name == "adaptive" or not torch.equal(guided, uncond))


def test_rescale_at_scale_zero_needs_both(passes):
    assert [len(calls) for calls in passes(0.0, method="rescale")] == [8, 8]


def test_an_interval_runs_the_unconditional_pass_inside_alone(method, passes):
    for sampler, times in (("euler", 1), ("heun", 2)):
        cond, uncond = passes(3.0, INTERVAL, method, sampler)
        assert sorted(set(uncond)) == [0.9, 1.5, 2.5, 4.0]
        assert len(uncond) == 4 * times
        assert set(cond) == {round(float(s), 4) for s in SIGMAS[:-1]}


def test_a_schedule_scales_the_excess_over_one(mixture):
    """1 + (scale - 1) * s: outside an interval the conditional prediction, halfway half the excess."""
    cond, uncond = mixture.denoiser(gc.VE, torch.tensor([0, 1])), mixture.denoiser(gc.VE)
    x = 4 * mixture.noise(2, seed=1)
    ramp = gc.ScaleSchedule("linear", 8.0, 2.0, axis="sigma")
    for sigma, weight in ((9.0, 1.0), (8.0, 1.0), (5.0, 3.5), (2.3, 5.75), (2.0, 1.0)):
        level = torch.tensor(sigma, dtype=torch.float64)
        want = uncond(x, level) + weight * (cond(x, level) - uncond(x, level))
        torch.testing.assert_close(gc.cfg_guided(cond, uncond, 6.0, ramp)(x, level), want)


def test_both_predictions_may_come_of_one_batch_where_both_are_needed(method, counted, randn):
    """In the place of the two passes, and never where one of them is enough."""
    cond, uncond = counted(lambda x, s: x * 0.5), counted(lambda x, s: x.flip(-1) * 0.4)
    both = counted(lambda x, s: (x * 0.5, x.flip(-1) * 0.4))
    noise = randn(2, 1, 2, 2)
    apart = gc.cfg_guided(cond, uncond, 3.0, INTERVAL, method)
    together = gc.cfg_guided(cond, uncond, 3.0, INTERVAL, method, both=both)
    want = gc.sample(apart, noise, SIGMAS)
    calls = [round(s, 4) for s in uncond.calls]
    cond.calls.clear(), uncond.calls.clear()
    assert torch.equal(gc.sample(together, noise, SIGMAS), want)
    assert [round(s, 4) for s in both.calls] == calls and len(both.calls) == 4 and not uncond.calls
    assert len(cond.calls) == 4


def test_conditions_reach_both_denoisers(randn):
    pair = gc.cfg_guided(None, None, 2.0, both=lambda x, s, c: (x * 0 + c, x * 0 - c))
    assert torch.equal(pair(randn(1, 1, 2, 2), 1.0, c=2.0), torch.full((1, 1, 2, 2), 6.0).double())
    guided = gc.cfg_guided(lambda x, s, c: x * 0 + c, lambda x, s, c: x * 0 - c, 2.0)
    assert torch.equal(guided(randn(1, 1, 2, 2), 1.0, c=2.0), torch.full((1, 1, 2, 2), 6.0).double())


def staged(method_name, phase, change, rank=50):
    """A method of one stage, for tests of the pipeline."""

    @dataclass(frozen=True)
    class Staged(Method):
        name = title = doc = source = method_name

        def start(self, run):
            return {phase: change}

    Staged.rank = rank
    return Staged()


def replaced(field, function):
    def stage(p):
        return type(p)(**{**vars(p), field: function(p)})

    return stage


STAGES = [  # in the order of their phases, and by rank and then name within one
    staged("x", Phase.PREDICTIONS, replaced("uncond", lambda p: p.uncond + 1)),
    staged("y", Phase.PREDICTIONS, replaced("uncond", lambda p: p.uncond * 2)),
    staged("m", Phase.DIFFERENCE, replaced("uncond", lambda p: p.cond - (p.cond - p.uncond) ** 2)),
    staged("c", Phase.SCALE, replaced("scale", lambda p: p.scale / 2)),
    staged("a", Phase.RESULT, replaced("guided", lambda p: p.guided.clamp(-2, 2))),
    staged("b", Phase.RESULT, replaced("guided", lambda p: p.guided + p.cond)),
    staged("0", Phase.RESULT, replaced("guided", lambda p: p.guided * 3), rank=90),
]


@pytest.mark.parametrize("seed", range(6))
def test_the_pipeline_does_not_depend_on_the_order_of_wiring(seed, predictions):
    cond, uncond, x = predictions()
    order = torch.randperm(len(STAGES), generator=torch.Generator().manual_seed(seed)).tolist()
    run = Pipeline(6.0, methods=tuple(STAGES[i] for i in order)).start(gc.Run())
    u = (uncond + 1) * 2
    u = cond - (cond - u) ** 2
    want = ((u + 3 * (cond - u)).clamp(-2, 2) + cond) * 3
    torch.testing.assert_close(run.combine(cond, uncond, x, torch.ones(3).double(), 6.0), want)


def test_published_methods_stack_in_any_order(predictions):
    cond, uncond, x = predictions()
    sigma = torch.full((3,), 1.5, dtype=torch.float64)
    methods = []
    for cls in METHODS.values():
        if not any(cls.decides & other.decides for other in methods):
            methods.append(cls(**switched_on(cls, x.shape)))
    assert len(methods) > 10
    results = [
        Pipeline(6.0, methods=tuple(stack)).start(gc.Run()).combine(cond, uncond, x, sigma, 6.0)
        for stack in (methods, methods[::-1])
    ]
    assert torch.equal(*results)


def test_two_methods_that_decide_the_same_are_refused_in_a_sentence():
    """In either order, and only those."""
    methods = [cls() for cls in METHODS.values()]
    for one, other in itertools.permutations(methods, 2):
        pipeline = Pipeline(6.0, methods=(one,))
        if one.decides & other.decides:
            with pytest.raises(gc.GuidanceError, match=f"'{other.name}' and '{one.name}' both decide .*; remove one"):
                pipeline.extended(6.0, gc.ScaleSchedule(), other)
        else:
            assert pipeline.extended(6.0, gc.ScaleSchedule(), other).methods == (one, other)
    assert METHODS["apg"].decides & METHODS["momentum"].decides


def test_no_two_stages_of_a_phase_share_a_rank_unless_they_exclude_each_other():
    """So that the order in which published methods act is the one written down, never that of their names."""
    acting = [cls(**switched_on(cls, SHAPES[0])) for cls in METHODS.values()]
    phases = {method: set(method.start(gc.Run(sigmas=(9.0, 3.0, 0.0))).keys()) for method in acting}
    for one, other in itertools.combinations(acting, 2):
        if phases[one] & phases[other] and not one.decides & other.decides:
            assert one.rank != other.rank, (one.name, other.name)


def test_ranks_leave_room_between_two_methods(method):
    """They count in fives, so that a method to come fits in without a new rank for the others."""
    assert METHODS[method].rank % 5 == 0


def test_a_method_shows_two_widgets_at_most(method):
    """What is beyond them is advanced: folded away until it is asked for."""
    widgets = [param for param in params_of(METHODS[method]).values() if param.kind is not object]
    assert len([param for param in widgets if not param.advanced]) <= 2


def test_what_a_method_needs_is_what_it_does_nothing_without(method):
    """A node refuses to go on without that, and without nothing else."""
    params = params_of(METHODS[method]).values()
    does_nothing = not METHODS[method]().start(gc.Run(sigmas=(9.0, 3.0, 0.0)))
    assert any(param.needed for param in params) == (does_nothing and method != "standard")


def test_methods_are_measured_at_the_scale_that_a_pipeline_begins_with():
    assert Pipeline().scale == SCALE


def test_extending_a_pipeline_adds_a_method_and_takes_the_new_scale():
    rescale, noisy = METHODS["rescale"](), METHODS["noisy_condition"]()
    one = Pipeline(3.0, methods=(rescale,))
    two = one.extended(5.0, INTERVAL, noisy)
    assert two == Pipeline(5.0, INTERVAL, (rescale, noisy))
    assert one == Pipeline(3.0, methods=(rescale,))
    with pytest.raises(gc.GuidanceError, match="'rescale' is already in this model's pipeline"):
        two.extended(5.0, INTERVAL, METHODS["rescale"](rescale=0.2))
    standard = METHODS["standard"]()
    assert len(two.extended(5.0, INTERVAL, standard).extended(5.0, INTERVAL, standard).methods) == 4


def test_guided_denoisers_nest(mixture):
    """A guided denoiser is a denoiser: CFG of CFG opens and closes its runs together."""
    labels = torch.tensor([0, 1])
    cond, uncond = mixture.denoiser(gc.VE, labels), mixture.denoiser(gc.VE)
    schedule = gc.ScaleSchedule("linear")
    inner = gc.cfg_guided(cond, uncond, 3.0, schedule)
    outer = gc.cfg_guided(inner, uncond, 2.0)
    want = gc.cfg_guided(cond, uncond, 4.0, gc.ScaleSchedule("linear", low=1 / 3, high=5 / 3))
    noise, sigmas = mixture.noise(2, seed=1), gc.karras(0.05, 20, 8)
    # u + 2 (u + (1 + 2 s)(c - u) - u) = u + (2 + 4 s)(c - u), and 1 + 3 (1/3 + 4/3 s) = 2 + 4 s
    torch.testing.assert_close(gc.sample(outer, noise, sigmas), gc.sample(want, noise, sigmas))


@pytest.mark.parametrize("seed", [0, 1])
def test_seeded_noise_is_not_the_noise_a_run_begins_with(seed):
    """A run of the same seed draws its first noise from a generator of that seed."""
    x = torch.zeros(1, 4, 16, 16)
    start = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    ours = seeded_noise(x, seed, [0])
    assert abs(float(torch.corrcoef(torch.stack([start.flatten(), ours.flatten()]))[0, 1])) < 0.15


@pytest.mark.parametrize(
    ("schedule", "want"),
    [
        (gc.ScaleSchedule(), [6.0, 6.0, 6.0]),
        (gc.ScaleSchedule("interval", start=3.0, end=0.5, axis="sigma"), [1, 6, 1]),
    ],
    ids=["constant", "interval"],
)
def test_the_scale_that_is_looked_ahead_for_is_that_of_the_calls(schedule, want):
    pipeline, run = Pipeline(6.0, schedule), gc.Run(sigmas=(9.0, 1.0, 0.2, 0.0))
    ahead, opened = pipeline.scale_over(run), pipeline.start(run)
    for sigma, scale in zip(run.levels, want, strict=True):
        assert ahead(sigma) == float(opened.scale_of(torch.tensor([sigma], dtype=torch.float64))) == scale
        strength = (scale - 1) / 5  # also asked by a batch, by its first sample
        assert opened.strength_at(sigma) == opened.strength_at(torch.tensor([sigma, 99.0])) == strength


@pytest.mark.parametrize("name", ["standard", "apg", "dynamic_threshold", "fdg", "momentum", "regional"])
def test_what_reads_no_level_combines_clean_predictions_too(name, predictions):
    """At sigma 0, which a method that reads the level refuses."""
    cond, uncond, x = predictions()
    assert torch.equal(combined(name, cond, uncond, x, sigma=0.0), combined(name, cond, uncond, x))


def test_there_is_no_method_of_a_name_that_none_has():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = gc.cfg.Nothing
