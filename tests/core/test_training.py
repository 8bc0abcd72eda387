"""The classifier network, its training and its evaluation: invariances, refusals, learning on easy data."""

import itertools
import json
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import guidance_core as gc
from guidance_core.assess.metrics import accuracy_by_log_snr, calibration_error
from guidance_core.classifier.heads import as_head
from guidance_core.classifier.latent_encoder import SIZES, LatentEncoder, ResidualBlock
from guidance_core.train import validation
from guidance_core.train.data import uniform_levels
from guidance_core.train.optimization import optimizer_step, update_ema, warm_up_and_cosine

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


def different_halves(count):
    """The same, no two alike."""
    latents, labels = halves(count)
    return latents + 0.1 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)), labels


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


def test_head_is_float32_in_mixed_precision(network, randn):
    x = randn(3, 2, 8, 8, dtype=torch.float32)
    full = network.float()(x, LOG_SNR)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(x, LOG_SNR)
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, mixed.bfloat16().float())
    torch.testing.assert_close(mixed, full, rtol=0.1, atol=0.1 * full.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "shape",
    [(4, 16, 16), (4, 24, 12), (16, 10, 20), (16, 3, 12, 8)],
    ids=["square", "tall", "wide with 16 channels", "video"],
)
def test_every_precision_of_weights_gives_finite_gradients(dtype, shape, randn):
    """At the noisiest and the cleanest level, for latents of each kind of model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = LatentEncoder(channels=shape[0], classes=3, **SIZES["small"]).to(dtype).requires_grad_(False)
        for block in network.modules():
            if isinstance(block, ResidualBlock):
                torch.nn.init.normal_(block.conv2.weight, std=0.05)
    x, target = randn(3, *shape, dtype=torch.float32), torch.tensor([0, 2, 1])
    classifier = gc.NoisyClassifier(network, NAMES, parameters={"channels": shape[0]})
    sigma = torch.tensor([150.0, 1.0, 0.006])
    grad, log_prob = gc.log_prob_grad(classifier, x * (1 + sigma.reshape(3, *[1] * len(shape))), sigma, target)
    assert grad.shape == x.shape and log_prob.shape == (3,)
    assert bool(grad.isfinite().all()) and bool(log_prob.isfinite().all())
    assert bool((grad.flatten(1).norm(dim=1) > 0).all())


def test_base_costs_little_beside_the_model_it_steers():
    """Forward and gradient by the input, at 64x64x4, against two passes of SD1.5's UNet: 1.5 % at most."""
    with torch.device("meta"):
        network = LatentEncoder(channels=4, classes=10, **SIZES["base"]).requires_grad_(False)
        x, log_snr = torch.zeros(1, 4, 64, 64, requires_grad=True), torch.zeros(1)
    counter = FlopCounterMode(display=False)
    with counter:
        network(x, log_snr).sum().backward()
    multiply_adds = counter.get_total_flops() / 2
    assert 0.01 * 2 * 0.34e12 < multiply_adds < 0.015 * 2 * 0.34e12


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
    assert loaded.record == classifier.record and loaded.record.data_hash
    assert loaded.record.training["steps"] == 3
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
        ({"label_names": ["a", "b", "c\nd"]}, r"Label names must not hold characters that cannot be seen, as 'c\\nd'"),
        ({"label_names": ["a", "b", "c" * 201]}, "The classifier to train.*'labels'"),
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


def test_settings_are_an_object_or_names():
    latents, labels = halves(12)
    settings = gc.TrainSettings(steps=3, batch=4, seed=5)
    losses = [
        [step.loss for step in gc.train_classifier(latents, labels, NAMES, **options)]
        for options in ({"settings": settings}, {"steps": 3, "batch": 4, "seed": 5}, {"settings": settings, "seed": 6})
    ]
    assert losses[0] == losses[1] != losses[2]
    with pytest.raises(gc.GuidanceError, match="has no parameter 'speed'"):
        gc.train_classifier(latents, labels, NAMES, settings=settings, speed=3)


def test_a_source_trains_like_its_tensors():
    latents, labels = halves(12)
    plain = trained(latents, labels, steps=3)
    by_source = trained(gc.TensorSource(latents, labels), None, steps=3)
    assert [step.loss for step in plain] == [step.loss for step in by_source]


def test_small_classes_are_not_drowned():
    """At pure noise p(y | x) is how often each class was drawn: evenly, or as it occurs."""
    latents = torch.randn(90, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0] * 72 + [1] * 12 + [2] * 6)
    noise = torch.randn(200, 1, 4, 4, generator=torch.Generator().manual_seed(1))

    def prior(balance):
        settings = {"steps": 80, "log_snr_range": (-10.0, -9.0), "entropy_penalty": 0.0, "balance": balance}
        return trained(latents, labels, **settings)[-1].classifier(noise, 1.0).softmax(1).mean(0)

    torch.testing.assert_close(prior(True), torch.full((3,), 1 / 3), rtol=0, atol=0.07)
    torch.testing.assert_close(prior(False), labels.bincount() / 90, rtol=0, atol=0.07)


class Watched(gc.TensorSource):
    """Notes which examples are loaded."""

    def load(self, indices):
        self.__dict__.setdefault("loaded", []).append(indices.tolist())
        return super().load(indices)


@pytest.fixture
def short_validations(monkeypatch):
    monkeypatch.setattr(validation, "DRAWS", (60, 200))


def test_what_validates_never_trains_and_copies_stay_together(short_validations):
    latents, labels = torch.randn(60, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
    latents[30:] = latents[:30]  # each picture twice
    source = Watched(latents, labels)
    options = {"hold_out": 0.2, "evaluate_every": 100, "device": "cpu"}
    held_out = trained(source, None, steps=40, **options)[-1].held_out
    trained_on = {i for batch in source.loaded[:40] for i in batch}
    validated = {i for batch in source.loaded[40:] for i in batch}
    assert trained_on | validated == set(range(60))
    assert validated == set(held_out.tolist())
    assert not {i % 30 for i in trained_on} & {i % 30 for i in validated}
    assert torch.tensor(sorted(validated)).remainder(3).bincount().tolist() == [4, 4, 4]


def test_validations_see_the_same_noise(short_validations):
    """A network that stands still validates the same every time, while its batches vary."""
    still = {"learning_rate": 1e-7, "weight_decay": 0.0, "steps": 6, "hold_out": 0.25, "evaluate_every": 1}
    steps = trained(*different_halves(24), **still)
    losses = torch.tensor([step.validation.loss for step in steps])
    torch.testing.assert_close(losses, losses[:1].expand(6), rtol=1e-3, atol=0)
    assert len({step.loss for step in steps}) == 6


def test_validation_is_told_by_noise_level():
    steps = trained(*different_halves(96), hold_out=0.25, evaluate_every=25)
    assert [step.step for step in steps if step.validation] == [25, 50, 60]
    last = steps[-1].validation
    assert last.bins[0].log_snr_low == -10 and last.bins[-1].log_snr_high == 10
    assert all(a.log_snr_high == b.log_snr_low for a, b in itertools.pairwise(last.bins))
    assert last.bins[0].accuracy < 0.6 and last.bins[-1].accuracy > 0.85
    assert last.bins[0].loss == pytest.approx(math.log(3), abs=0.15) and last.bins[-1].loss < 0.7
    assert sum(b.loss for b in last.bins) / 5 == pytest.approx(last.loss, rel=0.03)
    assert sum(b.accuracy for b in last.bins) / 5 == pytest.approx(last.accuracy, rel=0.03)


def weights(classifier):
    return torch.cat([tensor.flatten() for tensor in classifier.network.state_dict().values()])


def test_the_best_weights_are_kept_and_patience_ends_the_run(short_validations):
    """Labels by chance: the better they are learned, the worse is the validation."""
    latents = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    options = {"hold_out": 0.3, "evaluate_every": 5, "patience": 3, "log_snr_range": (2.0, 8.0), "ema": 0.0}
    least, best, steps = math.inf, None, []
    for step in gc.train_classifier(latents, torch.arange(40) % 2, ["a", "b"], steps=300, batch=16, **options):
        steps.append(step)
        if step.validation:
            assert step.validation.best == (step.validation.loss < least)
        if step.validation and step.validation.best:
            least, best = step.validation.loss, weights(step.best())
    validated = [step for step in steps if step.validation]
    assert steps[-1].step < 300 == steps[-1].steps
    assert [step.validation.best for step in validated[-4:]] == [True, False, False, False]
    assert torch.equal(weights(steps[-1].classifier), best)
    told = steps[-1].classifier.record.training
    assert (told["validation_loss"], told["validation_step"]) == (least, validated[-4].step)
    assert (told["trained_steps"], told["patience"], told["examples"]) == (steps[-1].step, 3, 28)


def test_a_run_that_is_left_has_a_classifier_already():
    latents, labels = halves(24)
    run = gc.train_classifier(latents, labels, NAMES, steps=50, batch=16, learning_rate=5e-3)
    step = next(itertools.islice(run, 19, None))
    early = step.best()
    before = weights(early).clone()
    assert early(latents, 1.0).shape == (24, 3)
    next(run)
    assert torch.equal(weights(early), before)
    assert not torch.equal(weights(step.best()), before)  # always the newest, where nothing is held out


@pytest.mark.parametrize("precision", ["bf16", "auto", "fp32"])
def test_precision_changes_the_arithmetic_only_a_little(precision):
    latents, labels = halves(24)
    exact, other = (trained(latents, labels, steps=4, precision=kind) for kind in ("fp32", precision))
    losses = [[step.loss for step in steps] for steps in (exact, other)]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.01)
    assert (losses[0] == losses[1]) == (precision != "bf16")
    assert weights(other[-1].classifier).dtype == torch.float32


def test_labels_that_go_together_are_learned(short_validations):
    """left and right of `halves` as two labels that may both be there."""
    latents, which = different_halves(96)
    labels = torch.stack([which != 1, which != 0], 1)
    options = {"head": "multi", "hold_out": 0.25, "steps": 80, "batch": 32, "learning_rate": 5e-3}
    last = list(gc.train_classifier(latents, labels, NAMES[:2], **options))[-1]
    assert last.classifier.head.name == "multi"
    p = last.classifier(latents, 0.05).sigmoid()
    assert ((p > 0.5) == labels).float().mean() > 0.95
    assert last.validation.bins[-1].accuracy > 0.9


def test_scores_are_learned(short_validations):
    """Brightness as a score, in units of its own."""
    x = torch.randn(96, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    latents = x + torch.randn(96, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    scores = 100 + 20 * latents.mean((1, 2, 3))
    options = {"head": "regression", "hold_out": 0.25, "steps": 120, "batch": 32, "learning_rate": 5e-3}
    last = list(gc.train_classifier(latents, scores, ["brightness"], **options))[-1]
    classifier = last.classifier
    predicted = as_head("regression").scores(classifier(latents, 0.05), classifier.info)[:, 0]
    assert (predicted - scores).square().mean() < 0.2 * scores.var()
    assert last.validation.bins[-1].accuracy > 0.8 > 0.2 > last.validation.bins[0].accuracy
    for text, sign in (("brightness", 1), ("-brightness", -1)):
        target = gc.parse_target(text, classifier.labels, classifier.head)
        guided = gc.classifier_guided(lambda x, s: x, classifier, target, 3.0)(latents, 1.0)
        assert ((guided - latents).mean((1, 2, 3)) * sign > 0).float().mean() > 0.95


def test_latents_that_are_not_finite_stop_the_run_in_words():
    latents, labels = halves(12)
    latents[:, 0, 2, 2] = math.nan
    with pytest.raises(gc.GuidanceError, match="loss is not a finite number at step 1 of 5. Check that the latents"):
        trained(latents, labels, steps=5)


def test_levels_are_spread_over_the_range():
    levels = uniform_levels(100, -10.0, 10.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(levels, torch.linspace(-9.9, 9.9, 100), rtol=0, atol=0.1)


def test_learning_rate_rises_then_falls():
    rates = [warm_up_and_cosine(step, 200) for step in range(1, 201)]
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 1e-3 and warm_up_and_cosine(1, 1) == 1


def test_steps_are_clipped_whatever_the_loss_is_scaled_by_and_overflows_make_none():
    """Plain descent moves by the learning rate times the gradient, whose norm is at most 1."""

    def moved(scaler=None, factor=1.0):
        layer = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.constant_(layer.weight, 0.5)
        optimizer_step(
            torch.optim.SGD(layer.parameters()), layer(torch.tensor([[3.0, -1.0]])).sum() * factor, 0.125, scaler
        )
        return layer.weight.detach() - 0.5

    gradient = torch.tensor([[3.0, -1.0]])
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        torch.testing.assert_close(moved(scaler), -0.125 * gradient / gradient.norm())
        torch.testing.assert_close(moved(scaler, 0.1), -0.125 * 0.1 * gradient)
    assert torch.equal(moved(torch.amp.GradScaler("cpu"), math.inf), torch.zeros(1, 2))


def test_average_of_constant_weights_is_the_weights():
    weights, average = ([torch.randn(2, 2), torch.randn(3)] for _ in range(2))
    for step in range(1, 200):
        update_ema(average, weights, 0.9, step)
    torch.testing.assert_close(average, weights)


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


def test_a_last_stage_that_the_pool_cannot_share_out_is_refused():
    with pytest.raises(ValueError, match="a multiple of 8 channels wide, got 12"):
        LatentEncoder(channels=2, classes=3, width=12, multipliers=[1], depth=1, embedding=16)
