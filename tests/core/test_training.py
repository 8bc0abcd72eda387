"""The classifier network, its training and its evaluation: invariances, refusals, learning on easy data."""

import json

import pytest
import torch

import guidance_core as gc
from guidance_core.classifier.batches import uniform_levels
from guidance_core.classifier.evaluation import accuracy_by_log_snr, calibration_error
from guidance_core.classifier.network import SIZES, LatentEncoder
from guidance_core.classifier.training import follow, warm_up_and_cosine

NAMES = ["left", "right", "both"]
LOG_SNR = torch.tensor([-3.0, 0.0, 4.0])


@pytest.fixture
def network():
    """A tiny encoder whose zero-initialised layers are switched on."""
    generator = torch.Generator().manual_seed(0)
    network = LatentEncoder(channels=2, classes=3, width=16, multipliers=[1, 2], depth=1, embedding=16).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


def halves(count, shape=(8, 8)):
    """Easy latents: a bright left half, a bright right half, or both."""
    labels = torch.arange(count) % 3
    latents = -torch.ones(count, 1, *shape)
    latents[labels != 1, ..., : shape[-1] // 2] = 1
    latents[labels != 0, ..., shape[-1] // 2 :] = 1
    return latents, labels


def trained(latents, labels, **settings):
    settings = {"steps": 60, "batch": 32, "learning_rate": 5e-3, **settings}
    return list(gc.train_classifier(latents, labels, NAMES, **settings))


def test_batch_mates_do_not_matter(network, randn):
    x = randn(3, 2, 8, 8)
    together = network(x, LOG_SNR)
    for i in range(3):
        torch.testing.assert_close(network(x[i : i + 1], LOG_SNR[i : i + 1]), together[i : i + 1])


def test_video_is_the_average_of_its_frames(network, randn):
    x = randn(3, 2, 4, 8, 8)
    frames = torch.stack([network(x[:, :, t], LOG_SNR) for t in range(4)])
    torch.testing.assert_close(network(x, LOG_SNR), frames.mean(0))


def test_logits_depend_on_the_noise_level(network, randn):
    x = randn(1, 2, 8, 8).expand(3, -1, -1, -1)
    logits = network(x, LOG_SNR)
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8), (33, 17), (9, 8)])
def test_any_size_and_aspect_ratio(network, randn, shape):
    x = randn(3, 2, *shape).requires_grad_()
    logits = network(x, LOG_SNR)
    assert logits.shape == (3, 3)
    (grad,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert (grad.abs().amax((0, 1)) > 0).all()  # every position is seen


def test_more_halvings_than_the_size_allows(randn):
    deep = LatentEncoder(channels=2, classes=3, width=8, multipliers=[1] * 5, depth=1, embedding=16)
    assert deep(randn(3, 2, 4, 5, dtype=torch.float32), LOG_SNR).shape == (3, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_head_is_float32_whatever_the_weights_are(network, randn, dtype):
    x = randn(3, 2, 8, 8, dtype=torch.float32)
    full = network.float()(x, LOG_SNR)
    half = network.to(dtype)(x.to(dtype), LOG_SNR)
    assert full.dtype == half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.1 * full.abs().max().item())


@pytest.mark.parametrize(("size", "low", "high"), [("small", 0.25, 0.35), ("base", 8, 10), ("large", 25, 30)])
def test_sizes_have_the_parameters_they_promise(size, low, high):
    parameters = json.loads(json.dumps({"channels": 4, "classes": 10, **SIZES[size]}))
    with torch.device("meta"):
        network = LatentEncoder(**parameters)
    assert low <= sum(parameter.numel() for parameter in network.parameters()) / 1e6 <= high


def test_training_learns(randn):
    latents, labels = halves(96)
    steps = trained(latents, labels)
    assert [step.step for step in steps] == list(range(1, 61))
    assert all(step.classifier is None for step in steps[:-1])
    assert steps[-1].loss < steps[0].loss
    classifier = steps[-1].classifier
    assert list(classifier.labels) == NAMES
    noisy, clean = accuracy_by_log_snr(classifier, latents, labels, [-10, -8, 10], torch.Generator().manual_seed(1))
    assert clean.accuracy > 0.85
    assert noisy.accuracy < 0.6  # 1/3 is chance


def test_training_takes_video():
    latents, labels = halves(30)
    video = latents[:, :, None].expand(-1, -1, 3, -1, -1)
    assert trained(video, labels, steps=2)[-1].classifier(video, 1.0).shape == (30, 3)


def test_training_repeats_bit_for_bit_and_leaves_the_global_generator_alone():
    latents, labels = halves(12)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = trained(latents, labels, steps=4)
    assert torch.equal(torch.rand(1), expected)
    second, other = trained(latents, labels, steps=4), trained(latents, labels, steps=4, seed=1)
    assert [step.loss for step in first] == [step.loss for step in second] != [step.loss for step in other]
    weights = [steps[-1].classifier.network.state_dict() for steps in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_training_works_in_inference_mode_and_keeps_it():
    with torch.inference_mode():
        latents, labels = halves(12)
        classifiers = []
        for step in gc.train_classifier(latents, labels, NAMES, steps=2, batch=4):
            assert torch.is_inference_mode_enabled()
            classifiers.append(step.classifier)
    grad, _ = gc.log_prob_grad(classifiers[-1], halves(12)[0], 1.0, labels)
    assert grad.isfinite().all()


def test_classifier_survives_its_file(tmp_path):
    latents, labels = halves(12)
    classifier = trained(latents, labels, steps=3, latent_space="halves")[-1].classifier
    classifier.save(tmp_path / "halves.safetensors")
    loaded = gc.NoisyClassifier.load(tmp_path / "halves.safetensors")
    assert (loaded.latent_space, list(loaded.labels)) == ("halves", NAMES)
    torch.testing.assert_close(loaded(latents, 0.5), classifier(latents, 0.5), rtol=0, atol=0)


def test_augmentation_reaches_the_network():
    latents, labels = halves(12)
    plain = trained(latents, labels, steps=1)
    flipped = trained(latents, labels, steps=1, augment=lambda x0, generator: x0.flip(-1))
    assert plain[0].loss != flipped[0].loss


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": [0, 1, 2, 0]}, r"6 latents and labels of shape \[4\]"),
        ({"labels": None}, "Latents need labels"),
        ({"labels": [0, 1, 2, 0, 1, 3]}, "from 0 to 2, one for each label name; got 3"),
        ({"labels": [0, 1, 2, 0, 1, -1]}, "got -1"),
        ({"labels": [0, 0, 2, 0, 2, 2]}, "no pictures of 'right', and at least 2"),
        ({"latents": torch.zeros(6, 8, 8)}, r"got \[6, 8, 8\]"),
        ({"label_names": ["one"]}, "at least 2 labels"),
        ({"label_names": ["a", "b", "a"]}, "must differ"),
        ({"steps": 0}, r"steps must be in \[1, 1e\+07\], got 0"),
        ({"batch": 0}, r"batch must be in \[1, 65536\], got 0"),
        ({"size": "huge"}, "size must be one of small, base, large, got 'huge'"),
        ({"head": "many"}, "head must be one of single, multi, regression, got 'many'"),
        ({"speed": 3}, "train_classifier has no parameter 'speed': it takes head, size, steps"),
        ({"augment": "flip, turn"}, "no augmentation 'turn'; choose from flip, shift, crop"),
        ({"patience": 3}, "hold_out must be above 0"),
        ({"hold_out": 0.2}, "There are 2 pictures of 'left', and at least 4 different ones are needed"),
        ({"precision": "fp16"}, "'fp16' needs an NVIDIA GPU, and the device is cpu: choose 'auto'"),
        ({"head": "regression", "label_smoothing": 0.1}, "Scores are not smoothed"),
        ({"log_snr_range": (3.0, -3.0)}, "must rise"),
    ],
)
def test_refuses_before_any_work(change, sentence):
    latents, labels = halves(6)
    with pytest.raises(gc.GuidanceError, match=sentence):
        gc.train_classifier(**{"latents": latents, "labels": labels, "label_names": NAMES, **change})


def test_levels_are_spread_over_the_range():
    levels = uniform_levels(100, -10.0, 10.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(levels, torch.linspace(-9.9, 9.9, 100), rtol=0, atol=0.1)


def test_learning_rate_rises_then_falls():
    rates = [warm_up_and_cosine(step, 200) for step in range(1, 201)]
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 1e-3 and warm_up_and_cosine(1, 1) == 1


def test_average_of_constant_weights_is_the_weights():
    network, average = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    for step in range(1, 200):
        follow(average, network, 0.9, step)
    torch.testing.assert_close(average.weight, network.weight)


def signs(x, sigma, path, sharpness=1.0):
    """The exact posterior of x0 = -1 or +1 (one number a sample) on VE, made too sure by `sharpness`."""
    logit = x.flatten(1) / sigma[:, None] ** 2
    return sharpness * torch.cat([-logit, logit], 1)


def test_exact_posterior_is_calibrated_and_as_accurate_as_it_can_be():
    x0 = torch.tensor([-1.0, 1.0]).repeat(4000)[:, None, None, None]
    labels = (x0.flatten() > 0).long()
    generator = torch.Generator().manual_seed(0)
    (exact,) = accuracy_by_log_snr(signs, x0, labels, [0.0, 1e-3], generator, repeats=2)
    assert exact.accuracy == pytest.approx(0.8413, abs=0.01)  # the normal distribution's mass below 1
    assert exact.calibration_error < 0.015
    sure = accuracy_by_log_snr(lambda *call: signs(*call, sharpness=5.0), x0, labels, [0.0, 1e-3], generator)[0]
    assert sure.calibration_error > 0.08


def test_calibration_error_in_closed_form():
    confidence, right = torch.tensor([0.8, 0.8, 0.6, 0.6]), torch.tensor([1.0, 0.0, 1.0, 1.0])
    assert calibration_error(confidence, right) == pytest.approx(0.5 * 0.3 + 0.5 * 0.4)


@pytest.mark.parametrize("bins", [[0.0], [1.0, 0.0], [0.0, 0.0]])
def test_bins_must_rise(bins):
    with pytest.raises(gc.GuidanceError, match="rising log-SNR edges"):
        accuracy_by_log_snr(signs, torch.zeros(2, 1, 1, 1), torch.zeros(2, dtype=torch.long), bins)
