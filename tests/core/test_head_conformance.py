"""Every head that is found keeps the laws of a head: of probability, of learning, of its labels and its words."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch

import guidance_core as gc
from guidance_core.classifier.heads import COLUMNS, INDICES, as_head, heads

NAMES = ["red", "round", "old"]
N, K = 24, len(NAMES)
WHICH = torch.arange(N) % K
ONE_HOT = torch.nn.functional.one_hot(WHICH, K).float()
LABELS = torch.tensor([0, 2, 1, 0])

pytestmark = pytest.mark.parametrize("head", heads().values(), ids=str)


@pytest.fixture
def labels(head):
    """One of three things a picture, in the head's format: labels that suit every head."""
    return WHICH if head.label_format is INDICES else ONE_HOT


@pytest.fixture
def y(head, labels):
    return head.prepare(labels, torch.arange(N))[0]


@pytest.fixture
def logits(randn):
    return 2 * randn(N, K)


# --- what it says of itself -------------------------------------------------------------------------------------------


def test_it_is_known_by_its_name(head):
    assert as_head(head.name) is as_head(head) is heads()[head.name] is head
    assert str(head) == head.name and head.name.isidentifier()
    assert dataclasses.replace(head) == head and head.takes(dataclasses.replace(head))
    assert [other.name for other in heads().values() if head.takes(other)] == [head.name]


def test_it_says_what_its_labels_and_figures_are(head):
    assert head.title and head.accuracy_name and head.shown_name and head.shown_title
    assert head.scale_meaning.endswith(".") and head.scale_meaning[0].isupper() | head.scale_meaning[0].isdigit()
    assert head.titled(1).startswith("1 ") and head.titled(7).startswith("7 ") and head.titled(7) != head.titled(1)


def test_how_sure_it_is_can_be_told_and_drawn(head):
    log_prob = torch.tensor([0.5, 0.25, 1.0]).log()
    shown = head.shown(log_prob)
    torch.testing.assert_close(shown, torch.tensor([50.0, 25.0, 100.0]) if head.has_probabilities else log_prob)
    low, high = head.shown_range
    assert (low is None or low <= float(shown.min())) and (high is None or float(shown.max()) <= high)
    assert len({head.in_words(value) for value in shown.tolist()}) == 3


def test_the_mean_of_logits_has_the_mean_of_their_probabilities(head, logits, randn):
    several = torch.stack([logits, 3 * randn(N, K, seed=1), -logits])
    want = torch.stack([head.probabilities(each) for each in several]).mean(0)
    torch.testing.assert_close(head.probabilities(head.mean(several)), want)


# --- its labels -------------------------------------------------------------------------------------------------------


def test_labels_that_fit_are_taken(head, labels):
    form = head.label_format
    assert form in (INDICES, COLUMNS) and form.fault(labels, NAMES) == ""
    kept = form.kept(labels)
    assert kept.dtype == form.dtype and tuple(kept.shape) == form.shape(N, K) and torch.equal(kept, labels)
    head.check(labels, NAMES, 2)


def test_labels_that_do_not_fit_are_refused(head, labels):
    fewer = NAMES[: K - 1]
    assert head.label_format.fault(labels, fewer).startswith("needs ")
    for wrong, names, fewest in ((labels, fewer, 2), (labels, NAMES, N)):
        with pytest.raises(gc.GuidanceError):
            head.check(wrong, names, fewest)


def test_labels_follow_their_names(head, labels):
    places = [2, 0, 3]
    moved = head.label_format.renamed(labels, places, 4)
    assert head.label_format.fault(moved, ["a", "b", "c", "d"]) == ""
    if head.label_format is INDICES:
        assert moved.tolist() == [places[i] for i in labels.tolist()]
    else:
        assert torch.equal(moved[:, places], labels) and not bool(moved[:, 1].any())


def test_pictures_become_labels(head):
    said = [(NAMES[i],) for i in WHICH.tolist()]
    pictures = [
        SimpleNamespace(labels=each, scores=tuple(row)) for each, row in zip(said, ONE_HOT.tolist(), strict=True)
    ]
    found = head.of_pictures(pictures, NAMES)
    assert torch.equal(found, WHICH if head.label_format is INDICES else ONE_HOT)


def test_labels_are_counted_and_balanced(head, labels):
    counts = head.occurrences(labels, K)
    assert counts is None or counts.tolist() == [N / K] * K
    weights = head.balance(labels)
    assert weights.shape == (N,) and weights.dtype == torch.float64 and bool((weights > 0).all())
    torch.testing.assert_close(float(weights.sum()), 1.0)
    strata = head.strata(labels)
    assert strata.shape == (N,) and strata.dtype == torch.long and len(strata.unique()) > 1


def test_what_a_trained_classifier_keeps_makes_the_same_targets(head, labels):
    training = torch.arange(5, N)
    y, info = head.prepare(labels, training)
    assert len(y) == N and all(isinstance(text, str) for pair in info.items() for text in pair)
    assert torch.equal(head.targets(labels, json.loads(json.dumps(info))), y)


# --- its probabilities ------------------------------------------------------------------------------------------------


def test_samples_do_not_change_each_other(head, logits, y):
    away = torch.arange(N) % 2 == 1
    for one in (
        lambda part: head.loss(logits[part], y[part]),
        lambda part: head.accuracy(logits[part], y[part]),
        lambda part: head.probabilities(logits[part]),
        lambda part: head.log_prob(logits[part], WHICH[part], away[part]),
        lambda part: head.entropy(logits[part]),
        lambda part: head.mean(torch.stack([logits[part], -logits[part]])),
    ):
        whole = one(slice(0, N))
        assert whole.dtype.is_floating_point and len(whole) == N
        torch.testing.assert_close(one(slice(3, 4)), whole[3:4])
        torch.testing.assert_close(one(torch.arange(N).flip(0)), whole.flip(0))


def test_a_label_and_its_negative_are_the_whole(head, logits):
    toward, away = (head.log_prob(logits, WHICH, torch.full((N,), sign)) for sign in (False, True))
    if not head.has_probabilities:
        assert torch.equal(toward, -away)
        return
    p = head.probabilities(logits)
    assert p.shape == (N, K) and bool(((p >= 0) & (p <= 1)).all())
    torch.testing.assert_close(toward.exp() + away.exp(), torch.ones(N, dtype=torch.float64))
    torch.testing.assert_close(toward.exp(), p[range(N), WHICH])
    if head.exclusive:
        torch.testing.assert_close(p.sum(1), torch.ones(N, dtype=torch.float64))


def test_steering_keeps_a_gradient_however_sure(head):
    """At certainty the wrong way the gradient is neither 0 nor anything but finite, and points to the label."""
    for sign in (False, True):
        sure = torch.full((1, K), 0.0)
        sure[0, 1] = 60.0 if sign else -60.0
        leaf = sure.requires_grad_()
        head.log_prob(leaf, torch.tensor([1]), torch.tensor([sign])).sum().backward()
        pull = -leaf.grad[0, 1] if sign else leaf.grad[0, 1]
        assert bool(leaf.grad.isfinite().all()) and float(pull) > 0.5


def test_entropy_is_bounded(head, logits):
    most = head.max_entropy(K)
    assert bool((head.entropy(logits) <= most + 1e-9).all())
    if head.has_probabilities:
        assert float(head.entropy(torch.tensor([[60.0, -60.0, -60.0]]))) < 1e-6


def test_a_prior_is_a_shift_of_the_logits(head, logits):
    prior = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    p = head.probabilities(logits) * prior
    want = p / p.sum(1, keepdim=True)
    close = torch.allclose(head.probabilities(logits + prior.log()), want)
    assert close == head.has_prior


def test_copies_are_averaged_in_probability(head, randn):
    copies = 3 * randn(4, N, K)
    torch.testing.assert_close(
        head.probabilities(head.mean(copies)), torch.stack([head.probabilities(each) for each in copies]).mean(0)
    )


# --- its learning -----------------------------------------------------------------------------------------------------


def fitted(head, y, start):
    """Logits that gradient descent on the head's loss finds, from a start that broadcasts against [N, K]."""
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], 0.1)
    for _ in range(300):
        optimizer.zero_grad()
        head.loss(logits.expand(N, K), y).mean().backward()
        optimizer.step()
    return logits.detach().expand(N, K)


def test_descending_its_loss_makes_it_right(head, y):
    found = fitted(head, y, torch.zeros(N, K))
    measured = head.measure(found, y)
    assert measured.accuracy > 0.99 and float(head.accuracy(found, y).mean()) > 0.99
    assert float(head.loss(found, y).mean()) < 0.2 * head.chance(y)[1]
    assert bool((measured.confidence > 0.8).all())


def test_chance_is_the_best_that_one_answer_to_all_can_be(head, y):
    uneven = y[torch.cat([torch.arange(N), torch.arange(0, N, 3)])][-N:]
    accuracy, loss = head.chance(uneven)
    same = fitted(head, uneven, torch.zeros(1, K))
    torch.testing.assert_close(float(head.loss(same, uneven).mean()), loss, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(head.measure(same, uneven).accuracy, accuracy, rtol=0, atol=1e-3)


def test_measures_agree_with_each_other(head, logits, y, labels):
    measured = head.measure(logits, y)
    assert len(measured.confidence) == len(measured.right) and (len(measured.right) > 0) == head.has_probabilities
    if head.has_probabilities:
        assert bool(((measured.confidence >= 0) & (measured.confidence <= 1)).all())
        torch.testing.assert_close(float(measured.right.mean()), measured.accuracy)
        torch.testing.assert_close(float(head.accuracy(logits, y).mean()), measured.accuracy)
    confusion = head.confusion(logits, y)
    if confusion is not None:
        assert confusion.sum(1).tolist() == head.occurrences(labels, K).tolist()
        torch.testing.assert_close(float(confusion.diagonal().sum() / N), measured.accuracy)


def test_smoothing_does_what_is_said(head, logits, y):
    plain, smoothed = head.loss(logits, y), head.loss(logits, y, 0.3)
    assert torch.equal(plain, head.loss(logits, y, 0.0))
    assert torch.allclose(plain, smoothed) != head.smooths
    settings = {"head": head, "label_smoothing": 0.3}
    if head.smooths:
        assert gc.TrainSettings(**settings).head == head.name
    else:
        with pytest.raises(gc.GuidanceError, match="not smoothed"):
            gc.TrainSettings(**settings)
