"""The digits demo: its data, its shipped weights, and that guidance does with them what guidance should."""

import hashlib

import pytest
import torch
from torch.nn import functional as F

import guidance_core as gc
from guidance_core import demo
from guidance_core.assess.metrics import accuracy_by_log_snr
from guidance_core.classifier.noisy import read_card
from guidance_core.demo.data import ABOUT, enlarge, jitter, load_digits, to_image
from guidance_core.demo.evaluate import contact_sheet, evaluate
from guidance_core.demo.judge import frechet_distance, within_class_distance
from guidance_core.demo.train import train_demo_classifier
from guidance_core.files import read_tensors

DIGITS = torch.arange(10)


@pytest.fixture(scope="module")
def d():
    return demo.load()


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    return load_digits()


@pytest.fixture(scope="module")
def drawn(d):
    """drawn(denoiser, count): images from DDIM in 25 steps, and the classes asked for in turn."""

    def draw(denoiser, count):
        noise = torch.randn(count, *d.shape, generator=torch.Generator().manual_seed(0))
        return d.to_image(gc.sample(denoiser, noise, gc.trailing(d.sigmas, 25)))

    return draw


def test_demo_says_what_it_is(d):
    assert d.shape == (1, 16, 16)
    assert list(d.classifier.labels) == list(d.labels) and d.labels[0] == "zero" and d.labels[9] == "nine"
    assert d.sigmas.shape == (1000,) and (d.sigmas.diff() > 0).all()


def test_weights_are_small():
    assert sum(file.stat().st_size for file in demo.FOLDER.glob("*.safetensors")) <= 5e6


WEIGHTS = {"classifier": "e441bfb9e52967e8", "denoiser": "4f32a47fad8f6c5f", "judge": "23ef692bf80fc751"}


@pytest.mark.parametrize("name", WEIGHTS)
def test_shipped_weights_say_whose_they_are_and_what_they_were_made_of(name):
    """And they are still the ones that the measurements in the documents were taken with."""
    file = demo.FOLDER / f"{name}.safetensors"
    metadata, weights = read_tensors(file, "digits", None)
    if name == "classifier":
        card = read_card(file)
        metadata = {"author": card.record.author, "licence": card.record.licence} | card.info
    assert metadata.items() >= ABOUT.items()
    assert ABOUT.keys() == {"author", "licence", "data", "data_licence"} and all(ABOUT.values())
    assert ABOUT["licence"] == "MIT" == (demo.FOLDER.parents[1] / "LICENSE").read_text(encoding="utf-8").split()[0]
    whole = hashlib.blake2b(digest_size=8)
    for key in sorted(weights):
        whole.update(key.encode() + weights[key].flatten().view(torch.uint8).numpy().tobytes())
    assert whole.hexdigest() == WEIGHTS[name]


def test_enlarging_keeps_the_average():
    smooth = F.avg_pool2d(torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(0)), 5, stride=1)[:, 0]
    torch.testing.assert_close(F.avg_pool2d(enlarge(smooth)[:, None], 2)[:, 0], smooth, rtol=0, atol=5e-3)


def test_split_is_fixed_stratified_and_disjoint(digits):
    train, held_out = digits
    assert len(train.labels) + len(held_out.labels) == 1797
    assert 25 <= int(held_out.labels.bincount().min()) <= int(held_out.labels.bincount().max()) <= 29
    assert torch.cdist(held_out.images.flatten(1), train.images.flatten(1)).min() > 0
    assert torch.equal(load_digits()[1].images, held_out.images)
    torch.testing.assert_close(to_image(held_out.x0), held_out.images)


def test_jitter_without_room_changes_nothing(digits):
    x0 = digits[1].x0[:4]
    same = jitter(x0, torch.Generator().manual_seed(0), shift=0.0, degrees=0.0, zoom=0.0)
    torch.testing.assert_close(same, x0, rtol=0, atol=1e-5)


def test_denoisers_do_not_mix_samples(d, randn):
    x = 3 * randn(4, *d.shape, dtype=torch.float32)
    together = d.cond(DIGITS[:4])(x, 3.0)
    for i in range(4):
        torch.testing.assert_close(d.cond([i])(x[i : i + 1], 3.0), together[i : i + 1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_denoisers_keep_the_dtype_and_run_in_inference_mode(d, randn, dtype):
    x = randn(2, *d.shape, dtype=dtype)
    with torch.inference_mode():
        fresh = demo.load()
        assert fresh.uncond(x, 1.0).dtype == dtype
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(fresh.uncond(leaf, 1.0).sum(), leaf)
    assert grad.isfinite().all()


def test_denoiser_knows_clean_digits(d, digits):
    x0 = digits[1].x0
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    error = (d.uncond(x0 + 0.3 * noise, 0.3) - x0).square().mean()
    assert error < 0.3 * 0.3**2  # most of the noise is gone


def test_labels_are_refused_by_name(d, randn):
    with pytest.raises(gc.GuidanceError, match="0 to 9, got 10"):
        d.cond([3, 10])
    with pytest.raises(gc.GuidanceError, match="3 labels for 2 samples"):
        d.cond([0, 1, 2])(randn(2, *d.shape, dtype=torch.float32), 1.0)


def test_judge_is_good_and_says_so(d, digits):
    held_out = digits[1]
    assert d.judge.accuracy(held_out.images, held_out.labels) == pytest.approx(d.judge.held_out_accuracy, abs=1e-6)
    assert d.judge.held_out_accuracy >= 0.98
    assert d.judge.diversity(held_out.images, held_out.labels) == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(d.judge(held_out.images).exp().sum(1), torch.ones(len(held_out.labels)))


@pytest.mark.parametrize(("log_snr", "least"), [(0.0, 0.88), (4.0, 0.97)])
def test_classifier_is_accurate_on_held_out_digits(d, digits, log_snr, least):
    generator = torch.Generator().manual_seed(0)
    edges = [log_snr, log_snr + 1e-3]
    (measured,) = bins_of(d, digits, edges, generator)
    assert measured.accuracy >= least


def test_classifier_is_calibrated_at_every_noise_level(d, digits):
    bins = bins_of(d, digits, [-10.0, -5.0, -2.5, 0.0, 2.5, 5.0, 10.0], torch.Generator().manual_seed(0))
    assert all(b.calibration_error <= 0.05 for b in bins)
    assert bins[0].accuracy < 0.25 and [b.accuracy for b in bins[:4]] == sorted(b.accuracy for b in bins[:4])


def bins_of(d, digits, edges, generator):
    return accuracy_by_log_snr(d.classifier, digits[1].x0, digits[1].labels, edges, generator, repeats=4)


def test_guidance_steers(d, drawn):
    labels = torch.arange(60) % 10
    unguided = drawn(d.uncond, 60)
    guided = drawn(gc.classifier_guided(d.uncond, d.classifier, labels, 4.0), 60)
    away = drawn(gc.classifier_guided(d.uncond, d.classifier, labels, -2.0), 60)
    assert d.judge.accuracy(unguided, labels) < 0.3
    assert d.judge.accuracy(guided, labels) > 0.9
    assert d.judge.accuracy(away, labels) < 0.05
    assert d.judge.diversity(guided, labels) < d.judge.diversity(unguided, labels)


def test_classifier_free_guidance_steers(d, drawn):
    labels = torch.arange(60) % 10
    plain = drawn(d.cond(labels), 60)
    guided = drawn(gc.cfg_guided(d.cond(labels), d.uncond, 2.0), 60)
    assert d.judge.accuracy(plain, labels) > 0.85
    assert d.judge.accuracy(guided, labels) > 0.93
    assert d.judge.diversity(guided, labels) < d.judge.diversity(plain, labels)


@pytest.mark.slow
def test_table(d, digits, tmp_path):
    rows = list(evaluate(d, samples=500))
    accuracy = {(row.guidance, row.scale): row.accuracy for row in rows}
    assert accuracy["classifier", -2] < 0.02 and 0.05 < accuracy["classifier", 0] < 0.2
    for scale, least in ((1, 0.75), (2, 0.93), (4, 0.98)):
        assert accuracy["classifier", scale] >= least
    assert accuracy["CFG", 1] >= 0.93 and accuracy["CFG", 2] >= 0.98
    for guidance in ("classifier", "CFG"):
        falling = [row.diversity for row in rows if row.guidance == guidance and row.scale >= 0]
        assert all(a > b for a, b in zip(falling, falling[1:], strict=False))
    contact_sheet(rows, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 0


@pytest.mark.slow
def test_a_classifier_from_scratch_is_as_good(d, digits):
    """The demo's own settings on the training part; judged on the held-out part, and by what it steers to."""
    train, held_out = digits
    *_, last = train_demo_classifier(train)
    classifier = last.classifier
    at, error = {}, 0.0
    for middle in (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0):
        edges, generator = [middle - 1, middle + 1], torch.Generator().manual_seed(0)
        (found,) = accuracy_by_log_snr(classifier, held_out.x0, held_out.labels, edges, generator, repeats=10)
        at[middle], error = found.accuracy, max(error, found.calibration_error)
    labels = torch.arange(400) % 10
    noise = torch.randn(400, *d.shape, generator=torch.Generator().manual_seed(0))
    steered = {}
    for scale in (1.0, 2.0, 4.0):
        guided = gc.classifier_guided(d.uncond, classifier, labels, scale)
        with torch.no_grad():
            images = d.to_image(gc.sample(guided, noise, gc.trailing(d.sigmas, 25), "ddim"))
        steered[scale] = d.judge.accuracy(images, labels)
    assert at[0.0] >= 0.88 and at[4.0] >= 0.97 and error <= 0.05
    assert steered[1.0] >= 0.75 and steered[2.0] >= 0.93 and steered[4.0] >= 0.98


def test_frechet_distance_in_closed_form(randn):
    a = randn(400, 5)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2) == pytest.approx(5 * 4)
    assert frechet_distance(a - a.mean(0), 3 * (a - a.mean(0))) == pytest.approx(4 * float(torch.cov(a.T).trace()))


def test_within_class_distance():
    images = torch.zeros(5, 2, 2)
    images[1], images[4] = 1.0, 7.0  # the last is alone in its class
    assert within_class_distance(images, torch.tensor([0, 0, 1, 1, 2])) == pytest.approx((2.0 + 0.0) / 2)


def test_both_predictions_come_of_one_batch(d, randn):
    x = 5 * randn(3, *d.shape, dtype=torch.float32)
    for labels in (torch.tensor([1, 2, 3]), 7):
        cond, uncond = d.both(labels)(x, 5.0)
        torch.testing.assert_close(cond, d.cond(labels)(x, 5.0), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(uncond, d.uncond(x, 5.0), rtol=1e-4, atol=1e-4)
    with pytest.raises(gc.GuidanceError, match="The digits' labels are 0 to 9, got 11"):
        d.both(11)
