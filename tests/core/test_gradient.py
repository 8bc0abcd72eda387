"""Classifier gradients and the term they make: batches, autograd modes, precision, caps, schedules, frames."""

import math

import pytest
import torch
from torch import nn

import guidance_core as gc
from guidance_core.terms.gradient import judge_of, leave_inference_mode, target_gradient
from guidance_core.terms.targets import LabelTarget

LABELS = ["zero", "one", "two"]


class Linear(nn.Module):
    """Logits W x + log_snr * b, in whatever dtype x has; W is nn.Parameter."""

    def __init__(self, features=8, classes=3, seed=0):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(classes, features, generator=g, dtype=torch.float64))
        self.register_buffer("bias", torch.randn(classes, generator=g, dtype=torch.float64))

    def forward(self, x, log_snr):
        return x.flatten(1).to(self.weight.dtype) @ self.weight.T + log_snr[:, None] * self.bias


def noisy(network, **more):
    return gc.NoisyClassifier(network, LABELS, parameters={"channels": 2}, **more)


@pytest.fixture
def x(randn):
    return 3 * randn(4, 2, 2, 2)


TARGET = torch.tensor([0, 2, 1, 0])


def test_gradient_is_the_derivative_of_log_prob(path, x, mixture):
    x, sigma, h = x[..., :1], 0.6, 1e-5
    grad, log_prob = gc.log_prob_grad(mixture.classifier, x, sigma, TARGET, path)
    want = mixture.classifier(x, sigma, path).log_softmax(1)[range(4), TARGET]
    torch.testing.assert_close(log_prob, want)
    for place in ((0, 0, 0), (1, 1, 0)):
        nudge = torch.zeros_like(x)
        nudge[(slice(None), *place)] = h
        ahead, behind = (gc.log_prob_grad(mixture.classifier, x + d, sigma, TARGET, path)[1] for d in (nudge, -nudge))
        torch.testing.assert_close(grad[(slice(None), *place)], (ahead - behind) / (2 * h), atol=1e-7, rtol=1e-6)


def test_gradient_of_a_sample_does_not_depend_on_the_size_of_its_batch(x):
    """The objective is the sum over the batch, never the mean."""
    classifier = noisy(Linear())
    grad, log_prob = gc.log_prob_grad(classifier, x, 1.0, TARGET)
    for i in range(4):
        alone, value = gc.log_prob_grad(classifier, x[i : i + 1], 1.0, TARGET[i : i + 1])
        torch.testing.assert_close(alone[0], grad[i])
        torch.testing.assert_close(value[0], log_prob[i])


def test_every_sample_has_its_own_label_and_noise_level(x, mixture):
    x, sigma = x[..., :1], torch.tensor([0.2, 0.9, 3.0, 11.0], dtype=torch.float64)
    grad, _ = gc.log_prob_grad(mixture.classifier, x, sigma, TARGET)
    for i in range(4):
        alone, _ = gc.log_prob_grad(mixture.classifier, x[i : i + 1], sigma[i], TARGET[i : i + 1])
        torch.testing.assert_close(alone[0], grad[i])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("wrap", [noisy, lambda network: lambda x, s, path: network(x, path.log_snr(s)), "module"])
def test_works_in_every_autograd_mode(mode, wrap, x):
    """Inputs may be inference tensors; weights may be frozen or not."""

    class Direct(Linear):
        def forward(self, x, sigma, path):
            return super().forward(path.unit(x, sigma), path.log_snr(sigma))

    classifier = Direct() if wrap == "module" else wrap(Linear())
    want = gc.log_prob_grad(classifier, x, 1.3, TARGET)
    with mode():
        inside, sigma, target = x.clone(), torch.tensor([1.3] * 4, dtype=torch.float64), TARGET.clone()
        got = gc.log_prob_grad(classifier, inside, sigma, target)
        assert torch.is_grad_enabled() is False
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)
        assert not a.requires_grad
    assert not x.requires_grad


def test_works_with_weights_made_in_inference_mode(x):
    class Direct(Linear):
        def forward(self, x, sigma, path):
            return super().forward(path.unit(x, sigma), path.log_snr(sigma))

    want = gc.log_prob_grad(noisy(Linear()), x, 1.3, TARGET)
    with torch.inference_mode():
        made = noisy(Linear()), Direct()
        assert made[0].network.weight.is_inference()
        target = gc.parse_target("zero | two | one | zero", LABELS)
        for classifier in made:
            torch.testing.assert_close(gc.log_prob_grad(classifier, x.clone(), 1.3, target), want)
    for classifier in made:
        torch.testing.assert_close(gc.log_prob_grad(classifier, x, 1.3, TARGET), want)


def test_leaving_inference_mode_replaces_what_was_made_in_it_and_nothing_else():
    """At every depth: parameters, which need no gradient of their own, and buffers."""
    with torch.inference_mode():
        inside = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.BatchNorm1d(3)))
    network = torch.nn.Sequential(inside, torch.nn.Sequential(torch.nn.BatchNorm1d(3)))
    before = network.state_dict(keep_vars=True)
    made_outside = dict(network[1].named_parameters()) | dict(network[1].named_buffers())
    held = [set(vars(part)) for part in network.modules()]
    leave_inference_mode(network)
    assert [set(vars(part)) for part in network.modules()] == held
    after = network.state_dict(keep_vars=True)
    assert not any(tensor.is_inference() for tensor in after.values())
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in network[0].parameters())
    now = dict(network[1].named_parameters()) | dict(network[1].named_buffers())
    assert all(now[name] is made_outside[name] for name in made_outside)


def test_a_target_used_in_inference_mode_serves_gradients_later(x):
    with torch.inference_mode():
        term = gc.classifier_guided(lambda x, s: x * 0, noisy(Linear()), TARGET.clone())
        first = term(x, 1.3)
    torch.testing.assert_close(term(x, 1.3), first.clone())


def test_whole_runs_in_inference_mode_equal_plain_ones(mixture):
    noise, sigmas, labels = mixture.noise(3, seed=1), gc.karras(0.05, 20, 6), torch.tensor([0, 1, 2])
    guided = gc.classifier_guided(mixture.denoiser(gc.VE), mixture.classifier, labels)
    want = gc.sample(guided, noise, sigmas)
    with torch.inference_mode():
        torch.testing.assert_close(gc.sample(guided, noise, sigmas).clone(), want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_half_precision_samples_get_single_precision_gradients(dtype, x):
    """At a logit margin of 18 a softmax in half precision has gradient 0; the answer has x's dtype."""
    network = Linear().float()
    low = x.to(dtype)
    grad, log_prob = gc.log_prob_grad(noisy(network), low, 1.0, TARGET)
    want, _ = gc.log_prob_grad(noisy(network), low.float(), 1.0, TARGET)
    assert grad.dtype == dtype
    assert log_prob.dtype == torch.float32
    torch.testing.assert_close(grad, want.to(dtype))

    def sure(x, sigma, path):
        return torch.stack([18 + x.flatten(1).sum(1) * 0.01, x.flatten(1).sum(1) * 0], 1)

    guided = gc.classifier_guided(lambda x, s: x * 0, sure, torch.zeros(4, dtype=torch.long), 100.0)
    moved = guided(low, 14.0)
    assert moved.dtype == dtype
    assert bool((moved != 0).any(1).any(1).all())


@pytest.mark.parametrize("text", ["a", "-a"])
@pytest.mark.parametrize("margin", [-40.0, -18.0, 0.0, 18.0, 40.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_saturated_targets_keep_their_exact_gradient(text, margin, dtype):
    """d log p / d margin = 1 - p and d log(1 - p) / d margin = -p, down to exp(-40) and not to 0."""

    def classifier(x, sigma, path):
        return torch.stack([x[:, 0, 0, 0], x[:, 0, 0, 0] * 0], 1)

    x = torch.full((1, 1, 1, 1), margin, dtype=dtype)
    for target in (gc.parse_target(text, ["a", "b"]), *([torch.tensor([0])] if text == "a" else [])):
        guided = gc.ClassifierTerm(classifier, target, 1.0).start(gc.Run())
        got = float(guided(torch.zeros(1, 1, 1, 1), x, torch.ones(1)))
        want = 1 / (1 + math.exp(margin)) if text == "a" else -1 / (1 + math.exp(-margin))
        assert got == pytest.approx(want, rel=1e-4)


def test_weighted_targets_compose_by_adding_gradients(x):
    classifier = noisy(Linear())

    def grad(text):
        return gc.log_prob_grad(classifier, x, 1.0, gc.parse_target(text, LABELS))[0]

    torch.testing.assert_close(grad("(zero:1.5), -two, one"), 1.5 * grad("zero") + grad("-two") + grad("one"))


def test_negative_is_the_log_of_one_minus_p(x):
    """grad log(1 - p) = -p / (1 - p) grad log p."""
    classifier = noisy(Linear())
    towards, log_p = gc.log_prob_grad(classifier, x, 1.0, gc.parse_target("two", LABELS))
    away, log_q = gc.log_prob_grad(classifier, x, 1.0, gc.parse_target("-two", LABELS))
    p = log_p.exp()
    torch.testing.assert_close(log_q.exp(), 1 - p)
    torch.testing.assert_close(away, (-p / (1 - p))[:, None, None, None] * towards)


def test_one_vp_classifier_serves_every_path(path, x, mixture):
    """Through the VP frame the exact VP classifier gives the exact gradient of each path, chain rule included."""

    def through_vp(x, sigma, path):
        return mixture.classifier(path.unit(x, sigma), gc.VP.sigma_at(path.log_snr(sigma)), gc.VP)

    x, sigma = x[..., :1], torch.tensor([0.1, 0.4, 0.7, 0.95], dtype=torch.float64)
    got, _ = gc.log_prob_grad(through_vp, x, sigma, TARGET, path)
    want, _ = gc.log_prob_grad(mixture.classifier, x, sigma, TARGET, path)
    torch.testing.assert_close(got, want)


def test_a_noisy_classifier_brings_the_chain_rule_factor(path, x):
    """grad_x = grad_u / sqrt(alpha^2 + sigma^2) at u = x / sqrt(alpha^2 + sigma^2), at the same log-SNR."""
    classifier, sigma = noisy(Linear()), torch.tensor([0.1, 0.4, 0.7, 0.95], dtype=torch.float64)
    total = (path.alpha(sigma) ** 2 + sigma**2).sqrt()[:, None, None, None]
    got, _ = gc.log_prob_grad(classifier, x, sigma, TARGET, path)
    vp = gc.VP.sigma_at(path.log_snr(sigma))
    in_vp, _ = gc.log_prob_grad(classifier, x / total, vp, TARGET, gc.VP)
    torch.testing.assert_close(got, in_vp / total)


def test_log_snr_beyond_the_training_range_is_asked_at_its_end(x):
    classifier = noisy(Linear(), log_snr_range=(-4.0, 4.0))
    for sigma, end in ((1000.0, math.exp(2)), (0.001, math.exp(-2))):
        scaled = x * math.hypot(1, end) / math.hypot(1, sigma)
        torch.testing.assert_close(classifier(x, sigma), classifier(scaled, end))


def test_wrong_channels_are_refused(x):
    classifier = gc.NoisyClassifier(Linear(), LABELS, "sd15", parameters={"channels": 4})
    with pytest.raises(gc.GuidanceError, match=r"trained on 4-channel latents and got 2 channels.*\(this one: sd15\)"):
        gc.log_prob_grad(classifier, x, 1.0, TARGET)


def test_a_network_of_ones_own_needs_no_description(x):
    grad, _ = gc.log_prob_grad(gc.NoisyClassifier(Linear(), LABELS), x, 1.0, TARGET)
    torch.testing.assert_close(grad, gc.log_prob_grad(noisy(Linear()), x, 1.0, TARGET)[0])


@pytest.mark.parametrize("detach", [lambda y: y.detach(), lambda y: torch.zeros(4, 3)])
def test_logits_without_a_gradient_are_refused(detach, x):
    with pytest.raises(gc.GuidanceError, match="logits do not depend on x"):
        gc.log_prob_grad(lambda x, s, p: detach(x.flatten(1)), x, 1.0, TARGET)


@pytest.mark.parametrize("scale", [-2.0, 3.0, torch.tensor([0.0, 1.0, 2.0, -3.0], dtype=torch.float64)])
def test_shift_is_sigma_squared_over_alpha(path, scale, x, randn):
    sigma = torch.tensor([0.1, 0.4, 0.7, 0.95], dtype=torch.float64)
    grad, column = randn(*x.shape, seed=9), (slice(None), None, None, None)
    weight = torch.as_tensor(scale, dtype=torch.float64).expand(4)[column]
    want = x + weight * (sigma**2 / path.alpha(sigma))[column] * grad
    torch.testing.assert_close(gc.shift_denoised(x, grad, sigma, path, scale), want)


def test_shift_is_nothing_at_pure_noise(x, randn):
    assert torch.equal(gc.shift_denoised(x, randn(*x.shape), 1.0, gc.FLOW), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_shift_keeps_half_precision_and_holds_large_levels(dtype, x):
    """sigma^2 at sigma 4519 is far above the largest half-precision number."""
    denoised, grad = x.to(dtype), torch.full_like(x, 1e-6).to(dtype)
    moved = gc.shift_denoised(denoised, grad, 4519.0)
    assert moved.dtype == dtype
    torch.testing.assert_close(moved, (x.to(dtype).float() + 4519.0**2 * grad.float()).to(dtype))


@pytest.fixture
def term(x):
    """term(**options): the change a term makes to a denoised prediction, with the gradient and the logits."""

    def change(scale=2.0, sigma=1.5, classifier=None, target=TARGET, path=gc.VE, **options):
        classifier = classifier or noisy(Linear())
        denoised = 0.3 * x
        guided = gc.classifier_guided(lambda x, s: 0.3 * x, classifier, target, scale, path=path, **options)
        return guided(x, torch.tensor(sigma, dtype=torch.float64)) - denoised

    return change


def test_entropy_aware_is_its_formula(term, x):
    """Times log K / max(H(p(y | x)), 0.2) for each sample (arXiv:2206.11474)."""
    p = noisy(Linear())(x, 1.5).detach().softmax(1)
    entropy = -(p * p.log()).sum(1)
    assert float(entropy.min()) < 0.2 < float(entropy.max())
    factor = torch.stack([math.log(3) / h.clamp(min=0.2) for h in entropy])
    torch.testing.assert_close(term(entropy_aware=True), factor[:, None, None, None] * term())


def test_entropy_aware_leaves_the_ignorant_classifier_as_it_is(term):
    def ignorant(x, sigma, path):
        return 1e-5 * Linear()(x, path.log_snr(sigma) * 0)

    torch.testing.assert_close(
        term(classifier=ignorant, entropy_aware=True), term(classifier=ignorant), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_max_shift_caps_each_sample_by_its_own_length(size, term, x):
    plain = term(scale=size)
    room = 0.5 * size * (0.3 * x - x).flatten(1).norm(dim=1)
    length = plain.flatten(1).norm(dim=1)
    assert bool((length > room).any())
    assert bool((length < room).any())
    want = plain * (room / length).clamp(max=1)[:, None, None, None]
    torch.testing.assert_close(term(scale=size, max_shift=0.5 * size), want)


def test_max_shift_of_nothing_is_nothing(x):
    """Where the gradient is zero nothing is divided by it."""

    def flat(x, sigma, path):
        return x.flatten(1)[:, :3] * 0

    guided = gc.classifier_guided(lambda x, s: x, flat, TARGET, 3.0, max_shift=0.5)
    assert torch.equal(guided(x, 1.0), x)


def test_a_scale_of_zero_calls_no_classifier(counted, x):
    classifier = counted(noisy(Linear()))
    guided = gc.classifier_guided(lambda x, s: 0.3 * x, classifier, TARGET, 0.0)
    assert torch.equal(guided(x, 1.0), 0.3 * x)
    assert classifier.calls == []


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_outside_its_interval_a_term_calls_no_classifier(sampler, counted, randn):
    classifier = counted(noisy(Linear()))
    schedule = gc.ScaleSchedule("interval", 5.0, 0.5, axis="sigma")
    guided = gc.classifier_guided(lambda x, s: 0.3 * x, classifier, TARGET, 2.0, schedule)
    sigmas = torch.tensor([10.0, 5.0, 2.0, 1.0, 0.5, 0.1, 0.0])
    gc.sample(guided, randn(4, 2, 2, 2), sigmas, sampler)
    assert sorted(set(classifier.calls)) == [1, 2, 5]


def test_a_schedule_multiplies_the_scale(x):
    ramp, classifier = gc.ScaleSchedule("linear", 4.0, 0.0, axis="sigma"), noisy(Linear())
    scheduled = gc.classifier_guided(lambda x, s: x, classifier, TARGET, 6.0, ramp)
    plain = gc.classifier_guided(lambda x, s: x, classifier, TARGET, 1.5)
    torch.testing.assert_close(scheduled(x, 3.0), plain(x, 3.0))


def test_terms_add_up_and_do_not_see_each_other(x):
    one, two = noisy(Linear()), noisy(Linear(seed=1))

    def base(x, s):
        return 0.3 * x

    first = gc.classifier_guided(base, one, TARGET, 2.0)
    second = gc.classifier_guided(base, two, TARGET, -1.0)
    both = gc.classifier_guided(first, two, TARGET, -1.0)
    torch.testing.assert_close(both(x, 1.5) - base(x, 1.5), first(x, 1.5) + second(x, 1.5) - 2 * base(x, 1.5))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_names_the_step_and_drops_nothing(bad, randn):
    def classifier(x, sigma, path):
        broken = torch.zeros_like(x)
        if float(sigma[0]) < 1.0:
            broken[1, 0, 0, 0] = bad  # one number of one sample
        return (x * (1 + broken)).flatten(1)[:, :3]

    guided = gc.classifier_guided(lambda x, s: 0.3 * x, classifier, TARGET)
    seen = []
    with pytest.raises(gc.GuidanceError, match=r"not a finite number at step 3 of 4 \(sigma 0.5\).*schedule"):
        gc.sample(guided, randn(4, 2, 2, 2), torch.tensor([9.0, 3.0, 0.5, 0.1, 0.0]), callback=seen.append)
    assert len(seen) == 2
    with pytest.raises(gc.GuidanceError, match="not a finite number at sigma 0.5"):
        guided(randn(4, 2, 2, 2), torch.tensor([0.9, 0.5, 4.0, 4.0]))


def test_a_sample_that_is_not_finite_is_not_blamed_on_the_classifier(randn):
    """In a host, which samples on; the library's own samplers stop where the prediction went wrong, a step earlier."""
    guided = gc.classifier_guided(lambda x, s: x * (math.nan if float(s[0]) < 1 else 0.3), noisy(Linear()), TARGET)
    x, sigmas = randn(4, 2, 2, 2), (9.0, 3.0, 0.5, 0.1, 0.0)
    with pytest.raises(gc.GuidanceError, match=r"The prediction is not a finite number at step 3 of 4"):
        gc.sample(guided, x, torch.tensor(sigmas))
    x[1, 0, 0, 0] = math.nan
    with pytest.raises(gc.GuidanceError, match=r"what is sampled is not a finite number.*at step 4 of 4.*the model"):
        guided.start(gc.Run(sigmas=sigmas))(x, torch.full((4,), 0.1, dtype=torch.float64))


def test_each_evaluation_is_recorded(x):
    events = []
    classifier = noisy(Linear())
    guided = gc.classifier_guided(lambda x, s: x, classifier, TARGET, 3.0)
    moved = guided.start(gc.Run(record=events.append))(x, torch.tensor(2.0, dtype=torch.float64)) - x
    (event,) = events
    grad, log_prob = gc.log_prob_grad(classifier, x, 2.0, TARGET)
    assert (event.sigma, event.scale) == (2.0, 3.0)
    torch.testing.assert_close(event.log_prob, log_prob)
    torch.testing.assert_close(event.grad_norm, grad.flatten(1).norm(dim=1))
    torch.testing.assert_close(event.push, moved.flatten(1).norm(dim=1) / (2 / 5**0.5 * 8**0.5))  # of r sqrt(n)


@pytest.mark.parametrize("most", [1, 4])
def test_events_tell_of_the_target_without_its_weights(most, x):
    """Its probability, where the gradient is that of the weighted sum; also of a batch taken in parts."""
    events, target = [], gc.parse_target("(two:0.01), two | (one:5)", LABELS)
    guided = gc.classifier_guided(lambda x, s: x, short_of_memory(most, "forward"), target, 3.0)
    guided.start(gc.Run(record=events.append))(x, torch.tensor(2.0, dtype=torch.float64))
    probabilities = noisy(Linear())(x, torch.full((4,), 2.0, dtype=torch.float64), gc.VE).softmax(1)
    torch.testing.assert_close(events[0].log_prob.exp(), probabilities[range(4), [2, 1, 2, 1]])
    grad, _ = gc.log_prob_grad(noisy(Linear()), x, 2.0, target)
    torch.testing.assert_close(events[0].grad_norm, grad.flatten(1).norm(dim=1))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"scale": 101.0}, r"scale must be in \[-100, 100\], got 101"),
        ({"scale": math.nan}, r"scale must be in \[-100, 100\], got nan"),
        ({"max_shift": -1.0}, r"max_shift must be in \[0, 10\], got -1"),
        ({"entropy_aware": 1}, "entropy_aware must be true or false, got 1"),
        ({"target": "seven"}, "parse_target.*got 'seven'"),
    ],
)
def test_refused_terms(options, sentence):
    options = {"target": TARGET} | options
    with pytest.raises(gc.GuidanceError, match=sentence):
        gc.classifier_guided(lambda x, s: x, noisy(Linear()), **options)


def test_images_and_video_alike(randn):
    """A term reduces over every axis but the batch: video of one frame is the image."""

    def classifier(x, sigma, path):
        return x.flatten(2).sum(2)[:, :2] * 0.1

    image, labels = randn(2, 3, 4, 4), torch.tensor([0, 1])
    guided = gc.classifier_guided(lambda x, s: 0.3 * x, classifier, labels, 5.0, max_shift=0.1, entropy_aware=True)
    torch.testing.assert_close(guided(image[:, :, None], 1.5)[:, :, 0], guided(image, 1.5))


# torch before 2.8 has no error of this kind
Accelerator = getattr(torch, "AcceleratorError", None)
needs_accelerator = pytest.mark.skipif(Accelerator is None, reason="this torch has no AcceleratorError")


def of_device(text, code):
    """An error as a device raises it: its text, and its code beside."""
    error = Accelerator(text)
    error.error_code = code
    return error


SHORTAGES = [
    pytest.param(lambda: torch.cuda.OutOfMemoryError("Tried to allocate 1 GiB"), id="allocator"),
    pytest.param(lambda: of_device("CUDA error: 2", 2), id="device code", marks=needs_accelerator),
    pytest.param(lambda: of_device("HIP error: Out of memory", 1), id="device words", marks=needs_accelerator),
    pytest.param(lambda: RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), id="mps"),
]


class Shortage(torch.autograd.Function):
    """The identity; its backward pass runs out of memory for more than `most` samples."""

    @staticmethod
    def forward(ctx, x, most, error):
        ctx.most, ctx.error = most, error
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        if len(grad) > ctx.most:
            raise ctx.error()
        return grad, None, None


def short_of_memory(most, where, error=SHORTAGES[0].values[0]):
    """A classifier that runs out of memory for more than `most` samples; in `asked` the size of each try."""
    inner = noisy(Linear())

    def classifier(x, sigma, path):
        classifier.asked.append(len(x))
        if where == "backward":
            x = Shortage.apply(x, most, error)
        elif len(x) > most:
            raise error()
        return inner(x, sigma, path)

    classifier.asked = []
    return classifier


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("most", [1, 2, 3, 6, 7])
@pytest.mark.parametrize(
    "target", [torch.tensor([0, 2, 1, 0, 1, 1, 2]), gc.parse_target("zero | two, -one | (one:2)", LABELS)]
)
def test_a_batch_beyond_memory_is_taken_in_parts(where, most, target, randn):
    """Each sample keeps its own target and noise level, and the parts are as good as the whole."""
    x, sigma = 3 * randn(7, 2, 2, 2), torch.linspace(0.2, 9.0, 7, dtype=torch.float64)
    got = gc.log_prob_grad(short_of_memory(most, where), x, sigma, target)
    torch.testing.assert_close(got, gc.log_prob_grad(noisy(Linear()), x, sigma, target), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("error", SHORTAGES)
def test_memory_may_run_out_in_many_words(where, error, x):
    """An allocator, the device itself and MPS each say it in an error of their own."""
    classifier = short_of_memory(2, where, error)
    torch.testing.assert_close(
        gc.log_prob_grad(classifier, x, 1.0, TARGET), gc.log_prob_grad(noisy(Linear()), x, 1.0, TARGET)
    )
    assert classifier.asked == [4, 2, 2]


def test_a_run_keeps_to_the_size_that_fits_and_the_next_begins_anew(randn):
    events, classifier = [], short_of_memory(3, "forward")
    guided = gc.classifier_guided(lambda x, s: 0.3 * x, classifier, gc.parse_target("two", LABELS), 2.0)
    x, whole = randn(8, 2, 2, 2), gc.classifier_guided(lambda x, s: 0.3 * x, noisy(Linear()), guided.term.target, 2.0)
    for _ in range(2):
        classifier.asked.clear()
        run = guided.start(gc.Run(record=events.append))
        for sigma in (3.0, 1.0, 0.5):
            torch.testing.assert_close(run(x, sigma), whole(x, sigma))
        assert classifier.asked == [8, 4, 2, 2, 2, 2, *[2] * 8]
        torch.testing.assert_close(run(x[:1], 0.5), whole(x[:1], 0.5))  # a smaller batch fits as it is
    assert [event.passes for event in events] == [4, 4, 4, 1] * 2


def test_one_gradient_is_one_pass(x):
    asked = short_of_memory(4, "forward")
    assert (
        target_gradient(judge_of(asked, gc.VE), x, 1.0, LabelTarget(TARGET), range(4)).passes == len(asked.asked) == 1
    )


@pytest.mark.parametrize("batch", [1, 4])
def test_memory_too_small_for_one_sample_is_a_sentence(batch, x):
    classifier = short_of_memory(0, "forward")
    with pytest.raises(gc.GuidanceError, match=r"memory ran out.*one sample of \[2, 2, 2\].*smaller classifier"):
        gc.log_prob_grad(classifier, x[:batch], 1.0, TARGET[:batch])
    assert classifier.asked == {1: [1], 4: [4, 2, 1]}[batch]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: RuntimeError("CUDA error: device-side assert triggered"), id="plain"),
        pytest.param(lambda: RuntimeError("there is no table for an out of memory index"), id="plain words"),
        pytest.param(
            lambda: of_device("CUDA error: an illegal memory access", 700), id="device", marks=needs_accelerator
        ),
        pytest.param(lambda: ValueError("MPS backend out of memory"), id="of another kind"),
    ],
)
def test_other_errors_of_a_classifier_pass_unchanged(make, x):
    error, asked = make(), []

    def broken(x, sigma, path):
        asked.append(len(x))
        raise error

    with pytest.raises(type(error)) as caught:
        gc.log_prob_grad(broken, x, 1.0, TARGET)
    assert caught.value is error
    assert asked == [len(x)]
