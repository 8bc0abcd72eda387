"""Evaluation and temperature: against closed forms, the exact mixture classifier, and brute force."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import guidance_core as gc
from guidance_core.assess.assessment import assess
from guidance_core.assess.calibrate import HIGHEST, LOWEST, fit_temperature
from guidance_core.assess.metrics import (
    MAX_CONFUSION,
    accuracy_by_log_snr,
    calibration_error,
    calibration_noise,
    evaluate,
    even_edges,
)
from guidance_core.classifier.heads import as_head, heads
from guidance_core.classifier.latent_encoder import LatentEncoder
from guidance_core.classifier.temperature import temperature_at
from guidance_core.progress import Progress, run_to_end

EDGES = [-6.0, -3.0, 0.0, 3.0, 6.0]


def measured(classifier, latents, labels, bins=EDGES, seed=0, **settings):
    generator = torch.Generator().manual_seed(seed)
    return run_to_end(evaluate(classifier, latents, labels, bins, generator=generator, batch=512, **settings))


@pytest.fixture(scope="module")
def data(mixture):
    return mixture.data(1500, seed=3)


@pytest.fixture
def sharp(mixture):
    """sharp(factor): the exact classifier, its logits multiplied."""
    return lambda factor: lambda x, sigma, path: factor * mixture.classifier(x, sigma, path)


def test_the_exact_classifier_is_calibrated_and_knows_ever_more(sharp, data):
    exact = measured(sharp(1.0), *data, temperature=True)
    assert all(b.calibration_error < 0.04 for b in exact.bins)
    assert all(abs(math.log(b.temperature)) < 0.15 for b in exact.bins)
    losses = [b.loss for b in exact.bins]
    assert losses == sorted(losses, reverse=True) and losses[0] < exact.chance_loss
    accuracies = [b.accuracy for b in exact.bins]
    assert accuracies == sorted(accuracies) and accuracies[0] > exact.chance


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_temperature_undoes_a_wrong_sharpness(factor, sharp, data):
    exact, raw = measured(sharp(1.0), *data, temperature=True), measured(sharp(factor), *data)
    cured = measured(sharp(factor), *data, temperature=True)
    for e, r, c in zip(exact.bins, raw.bins, cured.bins, strict=True):
        assert c.temperature == pytest.approx(factor * e.temperature, rel=0.1)  # the pull towards 1
        assert c.loss < r.loss and c.calibration_error < 0.05
        assert c.accuracy == r.accuracy
    assert cured.knots == tuple(((b.log_snr_low + b.log_snr_high) / 2, b.temperature) for b in cured.bins)
    assert torch.equal(cured.confusion, raw.confusion)


@pytest.mark.parametrize("head", ["single", "multi"])
def test_the_fitted_temperature_is_the_likeliest(head, randn):
    logits = 4 * randn(3000, 3, dtype=torch.float32)
    draw = torch.Generator().manual_seed(1)
    y = {
        "single": torch.multinomial((logits / 1.7).softmax(1), 1, generator=draw)[:, 0],
        "multi": torch.bernoulli((logits / 1.7).sigmoid(), generator=draw),
    }[head]
    fitted = fit_temperature(logits, y, as_head(head))
    assert fitted == pytest.approx(1.7, rel=0.05)
    grid = [fitted * 1.01**k for k in range(-40, 41)]
    best = min(grid, key=lambda t: float(heads()[head].loss(logits / t, y).mean()))
    assert best == pytest.approx(fitted, rel=0.021)


def test_little_evidence_leaves_the_temperature_near_1():
    right = 8.0 * F.one_hot(torch.arange(10) % 2).float()
    assert 0.7 < fit_temperature(right, torch.arange(10) % 2, as_head("single")) < 1
    assert fit_temperature(torch.zeros(1000, 2), torch.arange(1000) % 2, as_head("single")) == pytest.approx(
        1, abs=1e-3
    )
    assert fit_temperature(99 * right.repeat(500, 1), torch.arange(5000) % 2, as_head("single")) >= LOWEST
    assert fit_temperature(99 * right.repeat(500, 1), torch.arange(1, 5001) % 2, as_head("single")) <= HIGHEST


def test_temperatures_between_and_beyond_the_knots():
    knots = ((-2.0, 0.5), (0.0, 1.0), (3.0, 4.0))
    places = torch.tensor([-9.0, -2.0, -1.0, 0.0, 1.5, 3.0, 9.0])
    want = torch.tensor([0.5, 0.5, 0.5**0.5, 1.0, 2.0, 4.0, 4.0])
    torch.testing.assert_close(temperature_at(places, knots), want)
    torch.testing.assert_close(temperature_at(places, ((1.0, 0.7),)), torch.full((7,), 0.7))


def test_the_confusion_matrix_counts_every_answer(sharp, data):
    e = measured(sharp(1.0), *data)
    assert e.confusion.shape == (4, 3, 3)
    for i, b in enumerate(e.bins):
        assert torch.equal(e.confusion[i].sum(1), data[1].bincount())
        assert int(e.confusion[i].diagonal().sum()) == round(b.accuracy * e.draws)
    silent = measured(lambda x, sigma, path: torch.zeros(len(x), MAX_CONFUSION + 1), *data)
    assert silent.confusion is None


def test_reliability_holds_every_answer(sharp, data):
    e = measured(sharp(2.0), *data)
    count, confidence, right = e.reliability.unbind(2)
    assert count.sum(1).tolist() == [1500.0] * 4
    for i, b in enumerate(e.bins):
        assert float(right[i].sum()) == round(b.accuracy * 1500)
        assert float((right[i] - confidence[i]).abs().sum()) / 1500 == pytest.approx(b.calibration_error, rel=1e-5)


def test_calibration_error_in_closed_form():
    confidence = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.5, 0.5])
    right = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    assert calibration_error(confidence, right) == pytest.approx((4 * 0.15 + 2 * 0.0) / 6, abs=1e-6)


@pytest.mark.parametrize("draws", [100, 1000])
def test_calibration_noise_is_the_error_of_calibrated_answers(draws):
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(400, draws, generator=generator)
    right = torch.bernoulli(confidence, generator=generator)
    errors = [calibration_error(c, r) for c, r in zip(confidence, right, strict=True)]
    noises = []
    for c in confidence:
        part = (c * 15).long()
        rows = torch.stack(
            [torch.bincount(part, minlength=15), torch.zeros(15).index_add_(0, part, c), torch.zeros(15)]
        )
        noises.append(calibration_noise(rows.T))
    assert sum(noises) == pytest.approx(sum(errors), rel=0.05)
    assert calibration_noise(torch.zeros(15, 3)) == 0


def test_chance_of_labels_that_exclude_each_other():
    labels = torch.tensor([0, 0, 0, 1])
    e = measured(lambda x, sigma, path: torch.zeros(len(x), 2), torch.zeros(4, 1, 2, 2), labels)
    assert (e.chance, e.chance_loss) == (0.75, pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
    assert e.bins[0].loss == pytest.approx(math.log(2))


def test_labels_that_go_together():
    y = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    latents = y[:, :, None, None] * torch.ones(4, 2, 3, 3)

    def classifier(x, sigma, path):  # the first label exactly, the second always yes
        return torch.stack([6.0 * (y_of(x)[:, 0] * 2 - 1), torch.full((len(x),), 1.0)], 1)

    def y_of(x):
        return (x.mean((2, 3)) > 0.5).float()

    e = measured(classifier, latents, y, [20.0, 25.0], head="multi")
    assert e.bins[0].accuracy == pytest.approx((4 + 1) / 8)
    assert e.bins[0].loss == pytest.approx(float(F.softplus(torch.tensor([-6.0, 1.0, 1.0, -1.0, 1.0])) @
                                                 torch.tensor([4.0, 1, 1, 1, 1])) / 8, rel=1e-5)  # fmt: skip
    assert e.chance == 0.75 and e.confusion is None
    assert e.chance_loss == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


@pytest.mark.parametrize("sure", [True, False], ids=["of it", "of its absence"])
def test_a_label_that_is_sure_and_half_wrong_is_miscalibrated(sure):
    y = torch.tensor([[1.0], [0.0]]).repeat(50, 1)
    latents = torch.zeros(100, 1, 2, 2)
    logit = 3.0 if sure else -3.0
    e = measured(lambda x, sigma, path: torch.full((len(x), 1), logit), latents, y, head="multi")
    assert e.bins[0].calibration_error == pytest.approx(float(torch.tensor(3.0).sigmoid()) - 0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("answer", "r2"), [(lambda y: y, 1.0), (lambda y: 0 * y + 0.7, 0.0), (lambda y: 1.4 - y, -3.0)]
)
def test_scores_are_judged_by_r2(answer, r2, randn):
    y = randn(400, 2, dtype=torch.float32)
    y = y - y.mean(0) + 0.7
    latents = y[:, :, None, None].expand(400, 2, 2, 2).clone()
    e = measured(lambda x, sigma, path: answer(x.mean((2, 3))), latents, y, [30.0, 31.0], head="regression")
    (b,) = e.bins
    assert b.accuracy == pytest.approx(r2, abs=1e-4)
    assert 1 - b.loss / e.chance_loss == pytest.approx(r2, abs=1e-4)
    assert (e.chance, b.calibration_error, e.confusion, e.knots) == (0.0, 0.0, None, ())


def test_accuracy_by_log_snr_is_the_evaluation(sharp, data):
    bins = accuracy_by_log_snr(sharp(1.5), *data, EDGES, torch.Generator().manual_seed(0), batch=512)
    assert bins == list(measured(sharp(1.5), *data).bins)


def test_progress_counts_batches(sharp, data):
    seen = []
    work = evaluate(sharp(1.0), data[0][:10], data[1][:10], EDGES, repeats=3, batch=7)
    assert run_to_end(work, seen.append).draws == 30
    assert seen == [Progress(done, 20) for done in range(1, 21)]


def test_noise_levels_lie_in_their_bin(data):
    seen = []

    def classifier(x, sigma, path):
        seen.append(path.log_snr(sigma))
        return torch.zeros(len(x), 3)

    measured(classifier, *data)
    for low, high, levels in zip(EDGES, EDGES[1:], torch.cat(seen).reshape(4, -1), strict=False):
        assert low - 1e-4 <= float(levels.min()) < low + 0.02 and high - 0.02 < float(levels.max()) <= high + 1e-4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bins": [0.0]}, "two or more rising log-SNR edges"),
        ({"bins": [1.0, 0.0]}, "two or more rising log-SNR edges"),
        ({"head": "many"}, "no classifier head 'many'"),
        ({"labels": torch.zeros(3)}, "got 4 latents and 3 labels"),
        ({"latents": torch.zeros(0, 1, 2, 2), "labels": torch.zeros(0)}, "got 0 latents"),
    ],
)
def test_refused_before_any_work(change, sentence):
    arguments = {"latents": torch.zeros(4, 1, 2, 2), "labels": torch.zeros(4).long(), "bins": EDGES}
    with pytest.raises(gc.GuidanceError, match=sentence):
        evaluate(lambda *_: pytest.fail("ran"), **arguments | change)


def test_even_edges_meet_both_ends():
    assert even_edges((-8.0, 5.0), 4) == [-8.0, -4.75, -1.5, 1.75, 5.0]
    assert even_edges((-0.1, 0.2), 7)[-1] == 0.2


class Brightness(nn.Module):
    """Logits from the mean of x: bright or dark, three times too sure."""

    def forward(self, x, log_snr):
        mean = x.flatten(1).mean(1) * (1 + torch.exp(-log_snr)).sqrt()  # back from the VP frame
        return 3 * torch.stack([mean, -mean], 1) * 16 * torch.exp(log_snr)[:, None]


@pytest.fixture
def bright():
    """A classifier of the sign of 4x4 constant pictures in noise: exact but for its sharpness, and its data."""
    labels = torch.arange(400) % 2
    latents = (1 - 2.0 * labels)[:, None, None, None].expand(400, 1, 4, 4).clone()
    return gc.NoisyClassifier(Brightness(), ["bright", "dark"], log_snr_range=(-8.0, 4.0)), latents, labels


def assessed(*arguments, **settings):
    return run_to_end(assess(*arguments, **settings))


def test_an_examination_is_written_into_the_record(bright):
    classifier, latents, labels = bright
    result = assessed(classifier, latents, labels, repeats=2)
    record = result.classifier.record
    assert record.bins == result.evaluation.bins and len(record.bins) == 10
    assert (record.chance, record.chance_loss) == (0.5, pytest.approx(math.log(2)))
    assert record.temperatures == result.evaluation.knots
    assert record.suggestion == result.suggestion
    low, high = result.suggestion.log_snr_range
    inside = sum(low <= (b.log_snr_low + b.log_snr_high) / 2 <= high for b in record.bins)
    assert 0 < inside < 10 and sum(map(sum, record.confusion)) == inside * 800
    for b in record.bins[2:5]:  # where there is much to be wrong about
        assert b.temperature == pytest.approx(3, rel=0.2)


def test_the_classifier_applies_what_was_fitted(bright):
    result = assessed(*bright, repeats=2)
    again = assessed(result.classifier, *bright[1:], repeats=2, temperature=False)
    for b, a in zip(result.evaluation.bins, again.evaluation.bins, strict=True):
        assert dataclasses.replace(a, temperature=b.temperature) == b or a.loss == pytest.approx(b.loss, rel=1e-4)
        assert a.accuracy == b.accuracy
    assert again.classifier.record.temperatures == result.classifier.record.temperatures


def test_fitting_again_starts_anew(bright):
    once = assessed(*bright)
    assert assessed(once.classifier, *bright[1:]).classifier.record == once.classifier.record


def test_other_heads_are_assessed(randn):
    y = randn(64, 2, dtype=torch.float32)
    latents = y[:, :, None, None].expand(64, 2, 4, 4).clone()

    class Mean(nn.Module):
        def forward(self, x, log_snr):
            return x.flatten(2).mean(2) * (1 + torch.exp(-log_snr)).sqrt()[:, None] / 2 - 0.5

    info = {"score_mean": "[1.0, 1.0]", "score_std": "[2.0, 2.0]"}
    scores = gc.NoisyClassifier(Mean(), ["a", "b"], info=info, head="regression")
    result = assessed(scores, latents, y)
    assert result.evaluation.bins[-1].accuracy > 0.99  # the labels were put into the units of the logits
    assert result.classifier.record.temperatures == () and result.classifier.record.confusion is None
    multi = gc.NoisyClassifier(Mean(), ["a", "b"], head="multi")
    assert assessed(multi, latents, y > 0).evaluation.bins[-1].accuracy > 0.6


def test_video_is_assessed(randn):
    with torch.random.fork_rng(devices=[]):
        network = LatentEncoder(channels=16, classes=2, width=8, multipliers=[1], depth=1, embedding=16)
    result = assessed(
        gc.NoisyClassifier(network, ["a", "b"]), randn(4, 16, 3, 5, 7).float(), torch.tensor([0, 1, 0, 1])
    )
    assert len(result.evaluation.bins) == 10


@pytest.mark.parametrize(
    ("head", "labels", "sentence"),
    [
        ("single", torch.tensor([0, 2]), "a whole number from 0 to 1"),
        ("single", torch.tensor([0.0, 1.0]), "a whole number from 0 to 1"),
        ("single", torch.zeros(2, 2).long(), "a whole number from 0 to 1"),
        ("multi", torch.zeros(2, 3), "needs 2 columns of labels, one for each of bright, dark; got 3"),
        ("regression", torch.zeros(2), "needs 2 columns of labels"),
    ],
)
def test_labels_that_do_not_fit_the_classifier(head, labels, sentence):
    classifier = gc.NoisyClassifier(Brightness(), ["bright", "dark"], head=head)
    with pytest.raises(gc.GuidanceError, match=sentence):
        assess(classifier, torch.zeros(2, 1, 4, 4), labels)
