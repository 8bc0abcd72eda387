"""Numbers at their ends: not finite, zero, saturated, half precision, first and last levels, odd shapes, no steps."""

import math
import re

import pytest
import torch
from method_examples import switched_on

import guidance_core as gc
from guidance_core.cfg import Pipeline
from guidance_core.parameterizations import EPS, X0, Edm, V

METHODS = gc.cfg_methods()
SHAPES = [(2, 4, 7, 3), (1, 4, 1, 1), (2, 4, 1, 9), (2, 4, 2, 5, 3)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
# the ends of each path, and levels close to them
ENDS = [(gc.VE, s) for s in (1e-4, 1e3, 4519.0)] + [(gc.VP, s) for s in (1e-4, 0.9999)]
ENDS += [(gc.FLOW, s) for s in (1e-4, 0.9999, 1.0)]
TARGET = torch.tensor([0, 2])


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def predictions(randn):
    """predictions(shape, dtype, path, sigma): cond, uncond and x of believable sizes."""

    def make(shape, dtype=torch.float64, path=gc.VE, sigma=1.5):
        x0, noise = randn(*shape), randn(*shape, seed=1)
        cond, uncond = (x0 + 0.4 * randn(*shape, seed=seed) for seed in (2, 3))
        return tuple(t.to(dtype) for t in (cond, uncond, path.alpha(sigma) * x0 + sigma * noise))

    return make


def pipeline_of(method, shape, scale=4.0):
    return Pipeline(scale, methods=(METHODS[method](**switched_on(METHODS[method], shape)),))


def guided_by(method, shape, path=gc.VE, scale=3.0):
    """Two calm denoisers under a method with its parameters switched on."""
    on = switched_on(METHODS[method], shape)
    return gc.cfg_guided(
        lambda x, s: 0.5 * x + 0.1, lambda x, s: 0.4 * x.flip(-1), scale, method=method, path=path, **on
    )


@pytest.mark.parametrize(("path", "sigma"), ENDS, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_method_is_finite_at_both_ends_of_every_path(method, path, sigma, dtype, predictions):
    """Wherever the answer itself fits into the dtype: 1e4 times the noise of half a unit does not fit into float16."""
    for shape in SHAPES:
        on, inputs = switched_on(METHODS[method], shape), predictions(shape, dtype, path, sigma)
        exact = gc.combine(*(t.double() for t in inputs), sigma, 7.0, method, path, **on)
        guided = gc.combine(*inputs, sigma, 7.0, method, path, **on)
        assert (guided.shape, guided.dtype) == (shape, dtype)
        beyond = exact.abs() > 6e4 if dtype == torch.float16 else False
        assert bool((guided.isfinite() | beyond).all())


SIGMAS = torch.logspace(-2, 4, 50)
OF_LEVEL = {  # (x, denoised, sigma) -> a tensor
    "unit": lambda x, denoised, sigma: gc.VE.unit(x, sigma),
    "slope": lambda x, denoised, sigma: gc.VE.slope(x, denoised, sigma),
    "on VP": lambda x, denoised, sigma: gc.change_frame(x, sigma, gc.VE, gc.VP)[0],
    "on flow": lambda x, denoised, sigma: gc.change_frame(x, sigma, gc.VE, gc.FLOW)[0],
    "shift": lambda x, denoised, sigma: gc.shift_denoised(denoised, x, sigma),
    "eps network": lambda x, denoised, sigma: gc.eps_denoiser(lambda x, index: 0.5 * x, SIGMAS)(x, sigma),
    "v network": lambda x, denoised, sigma: gc.v_denoiser(lambda x, index: -x, SIGMAS)(x, sigma),
}
SPACES = {"eps": EPS, "v": V, "x0": X0, "edm": Edm()}
OF_LEVEL |= {f"{name} of": lambda x, d, s, to=to: to.output(d, x, s, gc.VE) for name, to in SPACES.items()}
OF_LEVEL |= {f"from {name}": lambda x, d, s, to=to: to.denoised(d, x, s, gc.VE) for name, to in SPACES.items()}
OF_LEVEL |= {
    f"{method} in {name}": lambda x, d, s, to=to, method=method, cls=cls: gc.combine(
        d, 0.5 * d.flip(-1), x, s, 4.0, method, output=to, **switched_on(cls, x.shape)
    )
    for name, to in SPACES.items()
    for method, cls in METHODS.items()
}


@pytest.mark.parametrize("name", OF_LEVEL)
@pytest.mark.parametrize("level", [300.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_level_in_half_precision_is_the_number_it_holds(name, level, dtype, predictions):
    """Beside x in single precision: 300^2 is beyond float16, and 1 - 1 / 300^2 is 1 in both."""
    denoised, _, x = predictions((2, 4, 6, 5), sigma=level)
    sigma = torch.full((2,), level, dtype=dtype)
    want = OF_LEVEL[name](x, denoised, sigma.double())
    got = OF_LEVEL[name](x.float(), denoised.float(), sigma).double()
    assert float((got - want).norm() / want.norm()) < 0.01


def test_a_frame_of_a_level_in_half_precision_is_of_that_level(randn):
    _, sigma = gc.change_frame(randn(1, 1, 2, 2), torch.tensor([300.0], dtype=torch.float16), gc.VE, gc.VP)
    assert gc.VP.holds(float(sigma))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_broken_sample_leaves_its_batch_mates_alone(method, broken, predictions):
    """At the first call and at the next one, when momentum and trackers remember what was broken."""
    shape = (3, 4, 6, 5)
    cond, uncond, x = predictions(shape)
    damaged = cond.clone()
    damaged[1, 0, 0, 0] = broken
    calm, hurt = (pipeline_of(method, shape).start(gc.Run(sigmas=(1.5, 1.0, 0.0))) for _ in range(2))
    for level in (1.5, 1.0):
        sigma = torch.full((3,), level, dtype=torch.float64)
        want = calm.combine(cond, uncond, x, sigma, 4.0)
        got = hurt.combine(damaged, uncond, x, sigma, 4.0)
        assert torch.equal(got[[0, 2]], want[[0, 2]])
        assert not bool(got[1].isfinite().all())


@pytest.mark.parametrize("sampler", gc.SAMPLERS)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_prediction_that_is_not_finite_names_step_and_sample(sampler, broken, randn):
    def denoiser(x, sigma):
        denoised = 0.5 * x
        if float(sigma[0]) < 2.0:
            denoised[1, 0, 0, 0] = broken
        return denoised

    with pytest.raises(gc.GuidanceError, match=r"step 3 of 4 \(sigma 1\), sample 2 of 3: run the model in another"):
        gc.sample(denoiser, randn(3, 1, 4, 4), torch.tensor([9.0, 3.0, 1.0, 0.3, 0.0]), sampler)


@pytest.mark.parametrize("dtype, value", [(torch.float16, 3e4), (torch.float32, 2e38)], ids=str)
def test_finite_predictions_whose_sum_is_not_are_taken(dtype, value, randn):
    denoised = torch.full((2, 3, 8, 8), value, dtype=dtype)
    assert not denoised.sum().isfinite()
    sigmas = torch.tensor([1.0, 0.5, 0.0])
    assert torch.equal(gc.sample(lambda x, sigma: denoised, randn(2, 3, 8, 8).to(dtype), sigmas, "euler"), denoised)


def test_heun_names_the_step_whose_level_its_second_pass_is_at(randn):
    calls = []

    def denoiser(x, sigma):
        calls.append(float(sigma[0]))
        return x * (math.nan if len(calls) == 2 else 0.5)

    with pytest.raises(gc.GuidanceError, match=r"step 2 of 3 \(sigma 3\), sample 1 of 2"):
        gc.sample(denoiser, randn(2, 1, 4, 4), torch.tensor([9.0, 3.0, 1.0, 0.0]), "heun")
    assert calls == [9.0, 3.0]


def test_half_precision_that_overflows_is_refused_and_single_precision_is_not(randn):
    def run(dtype):
        guided = gc.cfg_guided(lambda x, s: 0.9 * x, lambda x, s: 0.1 * x, 100.0)
        return gc.sample(guided, randn(1, 4, 6, 5, dtype=dtype), torch.tensor([1000.0, 0.0]), "euler")

    assert bool(run(torch.float32).isfinite().all())
    with pytest.raises(gc.GuidanceError, match=r"step 1 of 1 \(sigma 1000\).*lower the scales"):
        run(torch.float16)


@pytest.mark.parametrize("sampler", gc.SAMPLERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_odd_shapes_are_sampled_under_every_method(sampler, shape, path, randn):
    sigmas = path.sigma_at(torch.tensor([-8.0, 3.0], dtype=torch.float64))
    sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
    for name in METHODS:
        x0 = gc.sample(guided_by(name, shape, path), randn(*shape), sigmas, sampler, path=path)
        assert x0.shape == shape


STRAIGHT = [(path, sampler) for path in (gc.VE, gc.VP, gc.FLOW) for sampler in gc.SAMPLERS]
STRAIGHT = [(path, sampler) for path, sampler in STRAIGHT if path is not gc.VP or sampler not in ("euler", "heun")]


@pytest.mark.parametrize(("path", "sampler"), STRAIGHT, ids=lambda value: getattr(value, "name", value))
def test_one_step_is_the_guided_prediction(path, sampler, randn):
    """From pure noise straight to the data, whatever the sampler; not along dx / dsigma on VP, which is curved."""
    shape, sigma = (2, 4, 6, 5), {"VE": 80.0, "VP": 0.999, "flow": 1.0}[path.name]
    noise, sigmas = randn(*shape), torch.tensor([sigma, 0.0], dtype=torch.float64)
    for name in METHODS:
        guided = guided_by(name, shape, path)
        want = guided.start(gc.Run(path, (sigma, 0.0)))(noise * sigma, sigmas[:1].expand(2))
        torch.testing.assert_close(gc.sample(guided, noise, sigmas, sampler, path=path), want)


@pytest.mark.parametrize("count", [0, 1])
def test_no_steps_are_refused_in_a_sentence(count, randn):
    with pytest.raises(gc.GuidanceError, match="sigmas must fall and end at 0"):
        gc.sample(lambda x, s: x, randn(1, 1, 2, 2), torch.zeros(count))
    for spacing in (gc.flow_shift, lambda n: gc.karras(0.1, 9.0, n), lambda n: gc.trailing(torch.arange(1.0, 9.0), n)):
        with pytest.raises(gc.GuidanceError, match="number of sampling steps must be a whole number between 1"):
            spacing(0)


@pytest.mark.parametrize("shape", [(0, 4, 6, 5), (0,), (3,), ()])
def test_noise_of_no_samples_or_channels_is_refused(shape):
    with pytest.raises(gc.GuidanceError, match=r"noise must be one sample or more, \[B, C, ...\], got the shape \["):
        gc.sample(lambda x, s: x, torch.zeros(shape), torch.tensor([9.0, 0.0]))


def test_a_batch_of_none_is_refused(method):
    none = torch.zeros(0, 4, 6, 5)
    for call in (
        lambda: gc.combine(none, none, none, 1.5, 6.0, method),
        lambda: guided_by(method, (1, 4, 6, 5))(none, 1.5),
        lambda: gc.classifier_guided(lambda x, s: x, lambda x, s, p: x.flatten(1), TARGET)(none, 1.5),
        lambda: gc.log_prob_grad(lambda x, s, p: x.flatten(1), none, 1.5, TARGET),
    ):
        with pytest.raises(gc.GuidanceError, match=r"no samples: x has the shape \[0, 4, 6, 5\]"):
            call()


def test_a_level_that_rounds_to_no_level_of_the_path_is_refused(randn):
    """On VP 1 - 1e-9 is 1 in single precision, where alpha is 0 and eps says nothing of the data."""
    sigmas = torch.tensor([1 - 1e-9, 0.5, 0.0], dtype=torch.float64)
    guided = guided_by("rescale", (1, 4, 6, 5), gc.VP)
    assert bool(gc.sample(guided, randn(1, 4, 6, 5), sigmas, path=gc.VP).isfinite().all())
    with pytest.raises(gc.GuidanceError, match="On the VP path sigma must be above 0 and below 1, got 1"):
        gc.sample(guided, randn(1, 4, 6, 5, dtype=torch.float32), sigmas, path=gc.VP)


@pytest.mark.parametrize("sampler", gc.SAMPLERS)
@pytest.mark.parametrize(
    ("dtype", "sigmas"),
    [
        (torch.float16, [1, 1e-9, 0]),
        (torch.float16, [1e5, 1, 0]),
        (torch.bfloat16, [1, 1e-50, 0]),
        (torch.float32, [1, 1e-19, 0]),
        (torch.float32, [1, 1e-50, 0]),
        (torch.float32, [1, 1e-200, 0]),
        (torch.float32, [1e200, 1, 0]),
        (torch.float64, [1, 1e-155, 0]),
        (torch.float64, [1e155, 1, 0]),
    ],
    ids=str,
)
def test_a_level_whose_square_the_precision_of_the_noise_does_not_hold_is_refused(sampler, dtype, sigmas, randn):
    wrong = next(sigma for sigma in sigmas if sigma != 1)
    with pytest.raises(gc.GuidanceError, match=rf"For noise in {str(dtype)[6:]} .*got {re.escape(f'{wrong:.9g}')}\."):
        gc.sample(lambda x, s: 0.5 * x, randn(1, 2, 3, 3).to(dtype), torch.tensor(sigmas, dtype=torch.float64), sampler)


@pytest.mark.parametrize("sampler", gc.SAMPLERS)
@pytest.mark.parametrize(
    ("dtype", "least"),
    [(torch.float16, 6.2e-5), (torch.bfloat16, 1.1e-19), (torch.float32, 1.1e-19), (torch.float64, 1.5e-154)],
    ids=str,
)
def test_the_least_level_of_each_precision_gives_finite_numbers(sampler, dtype, least, randn):
    sigmas = torch.tensor([4 * least, 2 * least, least, 0], dtype=torch.float64)
    assert bool(gc.sample(lambda x, s: 0.5 * x, randn(2, 2, 3, 3).to(dtype), sigmas, sampler).isfinite().all())


@pytest.mark.parametrize(
    ("path", "sigma"), [(gc.VE, 0.0), (gc.VE, math.nan), (gc.VP, 1.0), (gc.VP, 2.0), (gc.FLOW, 0.0)], ids=str
)
def test_combine_refuses_what_is_no_noise_level_where_it_needs_one(path, sigma, predictions):
    cond, uncond, _ = predictions((2, 4, 6, 5))
    assert torch.equal(gc.combine(cond, uncond, cond, sigma, 3.0, path=path), uncond + (cond - uncond) * 3.0)
    with pytest.raises(gc.GuidanceError, match=f"On the {path.name} path sigma must be above 0"):
        gc.combine(cond, uncond, cond, sigma, 3.0, "rescale", path)


WITH_MEMORY = ("adaptive", "apg", "cfg_zero_star", "feedback", "momentum")


@pytest.mark.parametrize("sampler", ["euler", "ddim", "heun"])
@pytest.mark.parametrize("method", [name for name in METHODS if name not in WITH_MEMORY])
def test_a_run_taken_up_in_the_middle_ends_where_the_whole_one_does(method, sampler, path, randn):
    """As with denoise below 1, or an image to begin with: what is left of the levels, from the x that is there."""
    shape, sigmas = (2, 4, 6, 5), path.sigma_at(torch.tensor([-5.0, -2.0, 0.0, 2.0], dtype=torch.float64))
    sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
    guided = guided_by(method, shape, path)
    whole = list(gc.steps(guided, randn(*shape), sigmas, sampler, path=path))
    rest = list(gc.steps(guided, whole[1].x / sigmas[2], sigmas[2:], sampler, path=path))
    assert [step.sigma for step in rest] == [step.sigma for step in whole[2:]]
    for ours, theirs in zip(rest, whole[2:], strict=True):
        torch.testing.assert_close(ours.x, theirs.x)


@pytest.mark.parametrize("sampler", gc.SAMPLERS)
@pytest.mark.parametrize("method", WITH_MEMORY)
def test_a_run_with_memory_may_begin_in_the_middle(method, sampler, path, randn):
    """The memory is then empty: its first step is that of a run of one call."""
    shape, sigmas = (2, 4, 6, 5), path.sigma_at(torch.tensor([0.0, 2.0], dtype=torch.float64))
    guided, noise = guided_by(method, shape, path), randn(2, 4, 6, 5)
    levels = torch.cat([sigmas, sigmas.new_zeros(1)])
    first, *_ = gc.steps(guided, noise, levels, sampler, path=path)
    run = guided.start(gc.Run(path, tuple(levels.tolist())))
    torch.testing.assert_close(first.denoised, run(noise * sigmas[0], sigmas[:1].expand(2)))


def saturated(margin, dtype):
    """Logits (margin, z, 0) in a dtype, z the sum of x."""

    def classifier(x, sigma, path):
        z = x.flatten(1).sum(1)
        return torch.stack([margin + 0 * z, z, 0 * z], 1).to(dtype)

    return classifier


@pytest.mark.parametrize("text", ["a", "-a", "b", "-b", "(a:2), -b", "a | -a"])
@pytest.mark.parametrize("margin", [6e4, -6e4, 1e37, -1e37])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_saturated_logits_keep_the_gradient_of_double_precision(dtype, margin, text):
    margin = max(min(margin, 6e4), -6e4) if dtype == torch.float16 else margin
    target, x = gc.parse_target(text, ["a", "b", "c"]), torch.full((2, 1, 2, 2), 0.25, dtype=dtype)
    exact = float(torch.tensor(margin, dtype=dtype))
    grad, log_prob = gc.log_prob_grad(saturated(margin, dtype), x, 1.0, target)
    want = gc.log_prob_grad(saturated(exact, torch.float64), x.double(), 1.0, target)
    assert log_prob.dtype == torch.float32
    torch.testing.assert_close(grad.double(), want[0], rtol=2e-2, atol=1e-6)
    torch.testing.assert_close(log_prob.double(), want[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"entropy_aware": True}, {"max_shift": 0.5}])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_gradient_of_zero_changes_nothing(options, dtype, randn):
    """No opinion, and a classifier with a single class, whose probability is 1 whatever x is."""
    x = randn(2, 1, 2, 2, dtype=dtype)
    for classes in (3, 1):

        def classifier(x, sigma, path, classes=classes):
            return x.flatten(1)[:, :classes] * (0 if classes > 1 else 1)

        guided = gc.classifier_guided(lambda x, s: 0.5 * x, classifier, torch.zeros(2).long(), 50.0, **options)
        for sigma in (1e-4, 1.0, 1e3):
            assert torch.equal(guided(x, sigma), 0.5 * x)


@pytest.mark.parametrize(("path", "sigma"), ENDS, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"entropy_aware": True}, {"max_shift": 0.5}])
def test_a_classifier_term_is_finite_at_both_ends_of_every_path(path, sigma, dtype, options, randn):
    """On logits of x at unit variance, as networks see it; and nothing at the pure noise of flow."""

    def classifier(x, sigma, path):
        return path.unit(x, sigma).flatten(1)[:, :3]

    x = randn(2, 1, 7, 3, dtype=dtype) * math.hypot(1, sigma)
    guided = gc.classifier_guided(lambda x, s: 0.5 * x, classifier, TARGET, 2.0, path=path, **options)
    moved = guided(x, sigma)
    assert moved.dtype == dtype
    assert bool(moved.isfinite().all())
    if sigma > 0.1:
        assert torch.equal(moved, 0.5 * x) == (float(path.alpha(sigma)) == 0)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_refused(broken, randn):
    def classifier(x, sigma, path):
        logits = x.flatten(1)[:, :3]
        return torch.where(torch.arange(3) == 1, logits * broken, logits)

    guided = gc.classifier_guided(lambda x, s: 0.5 * x, classifier, TARGET)
    with pytest.raises(gc.GuidanceError, match=r"gradient is not a finite number at step 1 of 2 \(sigma 3\)"):
        gc.sample(guided, randn(2, 1, 2, 2).abs(), torch.tensor([3.0, 1.0, 0.0]))


def test_a_target_on_no_logits_is_no_sum(randn):
    """Labels of an empty batch are indices still."""
    target = gc.parse_target("a, -b", ["a", "b"])
    assert target.log_prob(torch.zeros(0, 2)).shape == (0,)


NONE_OF_THE_PATHS = [(gc.VE, level) for level in (0.0, -1.0, math.inf, math.nan)]
NONE_OF_THE_PATHS += [(gc.VP, 1.0), (gc.FLOW, 0.0), (gc.FLOW, -0.5), (gc.FLOW, 2.0), (gc.FLOW, math.nan)]


@pytest.mark.parametrize(("path", "level"), NONE_OF_THE_PATHS, ids=str)
def test_a_combination_at_no_level_of_the_path_is_refused_where_the_method_reads_it(method, path, level, predictions):
    """Also at one sample of the batch; what reads no level is the same at any."""
    cond, uncond, x = predictions((2, 4, 7, 3), path=path, sigma=0.5)
    chosen = switched_on(METHODS[method], x.shape)
    at_one = torch.tensor([0.5, level], dtype=torch.float64)
    if METHODS[method].reads_level:
        for sigma in (level, at_one):
            with pytest.raises(gc.GuidanceError, match=f"On the {path.name} path sigma must be above 0"):
                gc.combine(cond, uncond, x, sigma, 4.0, method, path, **chosen)
        return
    want = gc.combine(cond, uncond, x, 0.5, 4.0, method, path, **chosen)
    for sigma in (level, at_one, 0.9):
        assert torch.equal(gc.combine(cond, uncond, x, sigma, 4.0, method, path, **chosen), want)


# what is as large as x at high noise in itself: the network beside, noise in units of sigma, a share of the output
LARGE = {"autoguidance": {}, "perp_neg": {}, "noisy_condition": {"noise": 0.0}, "norm_cap": {"cap": 1.0}}


@pytest.mark.parametrize("output", [EPS, V, X0, Edm()], ids=lambda output: type(output).__name__)
@pytest.mark.parametrize("sigma", [30.0, 1e3, 1e4])
def test_single_precision_keeps_its_digits_at_high_noise(method, sigma, output, randn):
    """Predictions of size 1 under an x of size sigma: 1e-5 of float64 at any level, not sigma times the rounding."""
    noise, x0, *off = (randn(2, 4, 8, 8, seed=seed, dtype=torch.float32) for seed in range(6))
    chosen = LARGE.get(method, switched_on(METHODS[method], x0.shape))
    calls = [(2 * sigma, off[0], off[1]), (sigma, off[2], off[3])]

    def guided(dtype):
        run = gc.Run(sigmas=(2 * sigma, sigma, 1.0, 0.0), output=output)
        run = Pipeline(6.0, methods=(METHODS[method](**chosen),)).start(run)
        for level, one, other in calls:
            tensors = [t.to(dtype) for t in (x0 + 0.4 * one, x0 + 0.4 * other, x0 + level * noise)]
            result = run.combine(*tensors, torch.full((2,), level, dtype=dtype), 6.0)
        return result.double()

    torch.testing.assert_close(guided(torch.float32), guided(torch.float64), rtol=1e-5, atol=1e-5)
