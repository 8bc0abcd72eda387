"""Clean classifiers: what the term adds, to the formula; copies, heads, paths, refusals."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import guidance_core as gc
from guidance_core.classifier.clean import spread
from guidance_core.classifier.copies import Noised, Shifted
from guidance_core.terms.clean_guidance import RootOfSize

LABELS = ("zero", "one", "two")
TARGET = torch.tensor([0, 2, 1])
HEADS = ("single", "multi", "regression")


class Bent(nn.Module):
    """Logits of x0 [B, 2, 4, 4], not linear in it."""

    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 32, generator=g, dtype=torch.float64))

    def forward(self, x0):
        return torch.tanh(x0.flatten(1)) @ self.weight.T


@pytest.fixture
def given(randn):
    """denoised and x [3, 2, 4, 4]."""
    return randn(3, 2, 4, 4, seed=1), randn(3, 2, 4, 4, seed=2)


def pushed(clean, given, sigma, path=gc.VE, scale=3.0, target=TARGET, seed=0, record=lambda event: None, **options):
    """What the term adds at a level."""
    denoised, x = given
    guided = gc.classifier_guided(lambda x, s: denoised, clean, target, scale, path=path, **options)
    return (
        guided.start(gc.Run(path, seed=seed, record=record))(x, torch.as_tensor(sigma, dtype=torch.float64)) - denoised
    )


def gradient(log_prob, x0):
    leaf = x0.clone().requires_grad_()
    return torch.autograd.grad(log_prob(leaf).sum(), leaf)[0]


@pytest.mark.parametrize("sigma", [0.1, 0.5, 0.9, 1.0])
def test_one_copy_adds_scale_times_the_variance_left_times_the_gradient_at_denoised(sigma, path, given):
    """r^2 = sigma^2 / (alpha^2 + sigma^2), at pure noise too; x itself is not looked at."""
    clean = gc.clean_classifier(Bent(), LABELS, copies=1)
    grad = gradient(lambda x0: Bent()(x0).log_softmax(1)[range(3), TARGET], given[0])
    alpha = float(path.alpha(torch.tensor(sigma, dtype=torch.float64)))
    want = 3.0 * sigma**2 / (alpha**2 + sigma**2) * grad
    torch.testing.assert_close(pushed(clean, given, sigma, path), want)


def log_of_mean(head, logits):
    """log of the mean probability of TARGET, or the mean score, of logits [N, 3, K]."""
    if head == "regression":
        return logits.mean(0)[range(3), TARGET]
    p = logits.softmax(2) if head == "single" else logits.sigmoid()
    return p.mean(0)[range(3), TARGET].log()


@pytest.mark.parametrize("head", HEADS)
def test_copies_are_the_log_of_the_mean_probability_over_antithetic_noise(head, given):
    sigma = 0.7
    shown = []

    class Watched(Bent):
        def forward(self, x0):
            shown.append(x0.detach())
            return super().forward(x0)

    got = pushed(gc.clean_classifier(Watched(), LABELS, head), given, sigma)
    noise = shown[0].unflatten(0, (4, 3)) - given[0]
    torch.testing.assert_close(noise[0], -noise[1])
    torch.testing.assert_close(noise[2], -noise[3])
    assert not torch.allclose(noise[0].abs(), noise[2].abs())
    r = sigma / math.hypot(1, sigma)
    assert float(noise.std()) == pytest.approx(r, rel=0.15)
    grad = gradient(lambda x0: log_of_mean(head, Bent()((x0 + noise).flatten(0, 1)).unflatten(0, (4, 3))), given[0])
    torch.testing.assert_close(got, 3.0 * r**2 * grad)


@pytest.mark.parametrize("head", HEADS)
def test_a_negative_label_is_the_rest_of_the_mean_probability(head, given):
    clean = gc.clean_classifier(Bent(), LABELS, head)
    logits = clean(given[0], 0.7)
    away = gc.parse_target("-zero", LABELS).log_prob(logits, head)
    if head == "regression":
        torch.testing.assert_close(away, -logits[:, 0])
    else:
        towards = gc.parse_target("zero", LABELS).log_prob(logits, head)
        torch.testing.assert_close(away.exp(), 1 - towards.exp())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("margin", [-60.0, 0.0, 60.0])
def test_sure_copies_keep_a_gradient(head, margin):
    """However sure all copies are, in single precision: never exactly 0, never infinite."""

    def network(x0):
        return torch.stack([x0.flatten(1).sum(1), 0 * x0.flatten(1).sum(1)], 1)

    clean = gc.clean_classifier(network, ("a", "b"), head)
    x0 = torch.full((1, 1, 1, 1), margin)
    for text in ("a", "-a"):
        grad, _ = gc.log_prob_grad(clean, x0, 0.1, gc.parse_target(text, ("a", "b")))
        assert bool(grad.isfinite().all()) and bool((grad != 0).all()), text


def test_flow_and_ve_are_one_at_the_same_log_snr(given):
    clean = gc.clean_classifier(Bent(), LABELS)
    for ve in (0.05, 1.0, 14.0):
        flow = ve / (1 + ve)
        torch.testing.assert_close(pushed(clean, given, flow, gc.FLOW), pushed(clean, given, ve))


def test_the_push_is_told_alike_on_ve_and_flow(given):
    clean, told = gc.clean_classifier(Bent(), LABELS), []
    for path, sigma in ((gc.VE, 14.0), (gc.FLOW, 14 / 15)):
        pushed(clean, given, sigma, path, record=told.append)
    torch.testing.assert_close(told[0].push, told[1].push)


def test_whole_runs_on_ve_and_flow_end_alike(mixture):
    """The same noise levels by log-SNR, the same denoiser and judge: the same samples."""
    clean = gc.clean_classifier(lambda x0: mixture.classifier(x0, 0.3, gc.VE), LABELS)
    noise, ve = mixture.noise(4, seed=1), gc.karras(0.05, 20.0, 12)
    flow = ve / (1 + ve)
    labels = torch.tensor([0, 1, 2, 0])
    runs = [(gc.VE, ve), (gc.FLOW, flow)]
    ends = []
    for path, sigmas in runs:
        guided = gc.classifier_guided(mixture.denoiser(path), clean, labels, 4.0, path=path)
        # begun from the same x in units of its own total: the first level is not quite pure noise
        generator = torch.Generator().manual_seed(0)
        ends.append(gc.sample(guided, noise, sigmas, "ddpm", generator=generator, path=path))
    torch.testing.assert_close(*ends)
    assert mixture.classifier(ends[0], 0.05, gc.VE).argmax(1).tolist() == labels.tolist()


def test_copies_depend_on_the_runs_seed_and_the_noise_level_alone(given):
    clean = gc.clean_classifier(Bent(), LABELS)
    first = pushed(clean, given, 0.7)
    assert torch.equal(pushed(clean, given, 0.7), first)
    assert not torch.allclose(pushed(clean, given, 0.7, seed=1), first)
    shown = []

    def network(x0):
        shown.append(x0.detach())
        return Bent()(x0)

    watched = gc.clean_classifier(network, LABELS)
    for sigma in (0.7, 0.71):
        pushed(watched, given, sigma)
    a, b = (
        (s[:3] - given[0]) / r
        for s, r in zip(shown, (0.7 / math.hypot(1, 0.7), 0.71 / math.hypot(1, 0.71)), strict=True)
    )
    assert not torch.allclose(a, b)


def test_copies_of_one_level_are_never_those_of_another():
    """Also where there are several pairs, which are numbered through all levels."""
    copies = [Noised(4).of(torch.zeros(1, 1, 4, 4), torch.ones(1), 0, [draw], [0]) for draw in range(4)]
    assert len({float(copy.flatten()[0]) for each in copies for copy in each}) == 4 * 4


def test_asked_outside_of_a_run_it_answers_as_in_one_of_seed_0(given):
    """Where no level is named, of clean data: its copies are then all alike."""
    clean, x0 = gc.clean_classifier(Bent(), LABELS), given[0]
    torch.testing.assert_close(clean(x0).softmax(1), Bent()(x0).softmax(1))
    sigma = torch.full((3,), 0.7, dtype=torch.float64)
    want = clean.judged(x0, spread(sigma, gc.VE), gc.VE.log_snr(sigma), 0, range(3))
    assert torch.equal(clean(x0, 0.7), want)


def test_it_says_in_a_line_what_it_is():
    plain, decoded = (gc.clean_classifier(Bent(), LABELS, to_input=to_input) for to_input in (None, torch.tanh))
    assert repr(plain).startswith("CleanClassifier(") and "'two'; Bent, Noised(count=4" in repr(plain)
    assert "Bent after to_input, Noised(" in repr(decoded)


def test_decoding_is_paid_once(given):
    decoded = []

    def to_input(x0):
        decoded.append(len(x0))
        return F.interpolate(x0, scale_factor=2.0)

    def network(images):
        assert images.shape[1:] == (2, 8, 8)
        return Bent()(F.avg_pool2d(images, 2))

    pushed(gc.clean_classifier(network, LABELS, to_input=to_input, copies=8), given, 0.7)
    assert decoded == [3]


def test_shifted_copies_move_the_picture_both_ways(randn):
    images = torch.zeros(1, 1, 9, 9)
    images[..., 4, 4] = 1
    copies = Shifted(2, share=0.2).of(images, torch.ones(1), 0, [5], [0])
    centre = (torch.arange(9.0) * copies[:, 0, 0].sum(1)).sum(1) - 4  # where the dot went along a row
    assert float(centre[0]) == pytest.approx(-float(centre[1]), abs=1e-4)
    assert 0.01 < abs(float(centre[0])) <= 0.2 * 9
    torch.testing.assert_close(
        Shifted(2, share=0.2).of(torch.ones(1, 1, 9, 9), torch.ones(1), 0, [5], [0]), torch.ones(2, 1, 1, 9, 9)
    )


def test_shifts_are_uniform_up_to_their_share():
    """Half of 2000 copies go less than half of the way, to 3 of the standard deviations of such a count."""
    ramp = torch.arange(33.0).expand(2000, 1, 33, 33)  # its middle tells how far it went
    copies = Shifted(2).of(ramp, torch.ones(2000), 0, [5] * 2000, range(2000))
    went = (copies[0, :, 0, 16, 16] - 16).abs() / (0.06 * 33)
    assert 0.99 < float(went.max()) <= 1 + 1e-5
    assert float((went < 0.5).float().mean()) == pytest.approx(0.5, abs=3 * 0.5 / 2000**0.5)


@pytest.mark.parametrize("count", [0, -2, 3, 5])
def test_copies_that_make_no_pairs_are_refused(count):
    with pytest.raises(gc.GuidanceError, match=f"1 or an even number.*pairs; got {count}"):
        gc.clean_classifier(Bent(), LABELS, copies=count)


def test_an_unknown_head_is_refused():
    with pytest.raises(gc.GuidanceError, match="no classifier head 'softmax'"):
        gc.clean_classifier(Bent(), LABELS, "softmax")


@pytest.mark.parametrize("network", [lambda x0: x0.flatten(1)[:, :2], lambda x0: x0, lambda x0: x0.flatten(1)[:3]])
def test_a_network_of_other_labels_is_refused(network, given):
    with pytest.raises(gc.GuidanceError, match=r"3 labels and its network gave \[.*one logit a label"):
        pushed(gc.clean_classifier(network, LABELS), given, 0.7)


@pytest.mark.parametrize("to_input", [lambda x0: (x0 + 1e-9 * x0).round() + 0 * x0, lambda x0: x0.clamp(9, 10)])
def test_a_pipeline_that_rounds_or_clamps_is_refused(to_input, given):
    with pytest.raises(gc.GuidanceError, match="exactly zero everywhere.*rounds, clamps.*to_input"):
        pushed(gc.clean_classifier(Bent(), LABELS, to_input=to_input), given, 0.7)


def test_a_network_may_look_at_a_part_of_the_picture_only(given):
    """Its gradient is zero almost everywhere, and no reason to refuse it."""
    corner = torch.zeros(4, 4, dtype=torch.float64)
    corner[0, 0] = 1
    push = pushed(gc.clean_classifier(Bent(), LABELS, to_input=lambda x0: x0 * corner), given, 0.7)
    assert push[..., 0, 0].all()
    assert not push[..., 1:, :].any()


def test_a_module_is_put_into_evaluation_mode():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(32, 3))
    gc.clean_classifier(network, LABELS)
    assert not network.training


def test_the_gradient_does_not_pass_through_the_denoiser(given):
    denoised, x = given

    def denoiser(x, sigma):
        assert not torch.is_grad_enabled()
        return 0.5 * x

    clean = gc.clean_classifier(Bent(), LABELS)
    with torch.no_grad():
        moved = gc.classifier_guided(denoiser, clean, TARGET)(x, 0.7)
    assert not torch.equal(moved, 0.5 * x)


def test_spread_is_finite_at_pure_noise():
    assert float(spread(torch.ones(1), gc.FLOW)) == 1
    assert float(spread(torch.zeros(1), gc.VE)) == 0
    assert Noised().count == 4


def test_weights_made_in_inference_mode_serve_in_the_network_and_before_it(given):
    with torch.inference_mode():
        made = gc.clean_classifier(Bent(), LABELS, to_input=nn.BatchNorm2d(2).double().eval())
        inside = pushed(made, given, 0.7)
    plain = gc.clean_classifier(Bent(), LABELS, to_input=nn.BatchNorm2d(2).double().eval())
    assert torch.equal(pushed(plain, given, 0.7), inside.clone())
    assert torch.equal(pushed(made, given, 0.7), inside.clone())


def test_the_portable_unit_is_the_root_of_a_samples_size(given):
    """32 numbers a sample: scale 1 is then what sqrt(32) is by itself."""
    clean = gc.clean_classifier(Bent(), LABELS)
    got = pushed(clean, given, 0.7, scale=1.0, unit=RootOfSize())
    torch.testing.assert_close(got, pushed(clean, given, 0.7, scale=32**0.5))
    alone = tuple(part[:1] for part in given)
    one = pushed(clean, alone, 0.7, scale=1.0, unit=RootOfSize(), target=TARGET[:1])
    torch.testing.assert_close(one, got[:1])
