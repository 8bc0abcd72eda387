"""Heads: what logits mean, held to probability: losses, log-probabilities, entropies, balance, and guidance by them."""

import math

import pytest
import torch
from torch import nn

import guidance_core as gc
from guidance_core.classifier.heads import as_head, heads

NAMES = ["red", "round", "old"]
LABELS = torch.tensor([0, 2, 1, 0])
ALL = sorted(heads())


class Linear(nn.Module):
    """Logits W x, in double precision."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64), requires_grad=False
        )

    def forward(self, x, log_snr):
        return x.flatten(1) @ self.weight.T


def classifier(head):
    return gc.NoisyClassifier(Linear(), NAMES, parameters={"channels": 2}, head=head)


@pytest.fixture
def logits(randn):
    return 3 * randn(4, 3)


def test_a_head_is_known_by_its_name_and_as_it_is():
    assert list(heads()) == ["single", "multi", "regression"]
    for name, head in heads().items():
        assert as_head(name) is as_head(head) is head and str(head) == head.name == name
        assert classifier(name).head is classifier(head).head is head
    with pytest.raises(gc.GuidanceError, match="no classifier head 'many'; choose one of single, multi, regression"):
        as_head("many")


def test_probabilities_by_hand(logits):
    torch.testing.assert_close(heads()["single"].probabilities(logits), logits.softmax(1))
    torch.testing.assert_close(heads()["multi"].probabilities(logits), 1 / (1 + (-logits).exp()))
    assert torch.equal(heads()["regression"].probabilities(logits), logits)


@pytest.mark.parametrize("head", ["single", "multi"])
def test_a_label_and_its_negative_are_the_whole(head, logits):
    toward, away = (heads()[head].log_prob(logits, LABELS, torch.full((4,), sign)) for sign in (False, True))
    torch.testing.assert_close(toward.exp() + away.exp(), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(toward.exp(), heads()[head].probabilities(logits)[range(4), LABELS])


def test_a_score_and_its_negative_cancel(logits):
    toward, away = (heads()["regression"].log_prob(logits, LABELS, torch.full((4,), sign)) for sign in (False, True))
    torch.testing.assert_close(toward, logits[range(4), LABELS])
    assert torch.equal(toward, -away)


def test_losses_are_negative_log_probabilities(logits, randn):
    single = heads()["single"].loss(logits, LABELS)
    torch.testing.assert_close(single, -heads()["single"].log_prob(logits, LABELS, torch.zeros(4, dtype=torch.bool)))
    y = (randn(4, 3) > 0).double()
    p = logits.sigmoid()
    torch.testing.assert_close(heads()["multi"].loss(logits, y), -(y * p + (1 - y) * (1 - p)).log().mean(1))
    scores = randn(4, 3, seed=1)
    normal = torch.distributions.Normal(logits, torch.ones_like(logits))
    offset = 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(heads()["regression"].loss(logits, scores) + offset, -normal.log_prob(scores).mean(1))


@pytest.mark.parametrize("head", ["single", "multi"])
def test_smoothing_mixes_the_labels_with_a_coin(head, logits):
    """Smoothing s is the loss at the labels times (1 - s), plus s times the mean loss of all answers."""
    y = LABELS if head == "single" else (logits.flip(0) > 0).double()
    answers = [torch.full((4,), k) for k in range(3)] if head == "single" else [y, 1 - y]
    mean = torch.stack([heads()[head].loss(logits, answer) for answer in answers]).mean(0)
    want = 0.7 * heads()[head].loss(logits, y) + 0.3 * mean
    torch.testing.assert_close(heads()[head].loss(logits, y, 0.3), want)


@pytest.mark.parametrize("head", ALL)
def test_entropy_is_largest_where_nothing_is_known(head, logits):
    most = heads()[head].max_entropy(3)
    ignorant = heads()[head].entropy(torch.zeros(1, 3, dtype=torch.float64))
    torch.testing.assert_close(float(ignorant), most)
    assert bool((heads()[head].entropy(logits) <= most + 1e-12).all())
    if head != "regression":
        assert float(heads()[head].entropy(torch.tensor([[60.0, -60.0, -60.0]]))) < 1e-6
    else:
        torch.testing.assert_close(most, float(torch.distributions.Normal(0.0, 1.0).entropy()))


def test_accuracy_counts_what_is_right():
    logits = torch.tensor([[2.0, 1.0, -1.0], [-1.0, 3.0, 0.5]])
    assert heads()["single"].accuracy(logits, torch.tensor([0, 2])).tolist() == [1, 0]
    y = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    torch.testing.assert_close(heads()["multi"].accuracy(logits, y), torch.tensor([1.0, 1 / 3]))


def test_regression_accuracy_is_r_squared(randn):
    scores = 5 + 2 * randn(500, 2)
    y, info = heads()["regression"].prepare(scores, torch.arange(500))
    guess = y + 0.5 * randn(500, 2, seed=1)
    residual = (guess - y).square().sum(0) / y.square().sum(0)
    torch.testing.assert_close(
        heads()["regression"].accuracy(guess, y).mean(), (1 - residual).mean(), rtol=1e-4, atol=0
    )
    mean = heads()["regression"].accuracy(torch.zeros_like(y), y).mean()
    torch.testing.assert_close(float(mean), 0.0, rtol=0, atol=1e-5)


def test_scores_are_standardised_by_the_training_part_and_come_back(randn):
    scores = 5 + 2 * randn(50, 2)
    training = torch.arange(10, 50)
    y, info = heads()["regression"].prepare(scores, training)
    torch.testing.assert_close(y[training].mean(0), torch.zeros(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(y[training].std(0, unbiased=False), torch.ones(2))
    assert float(y.mean(0).abs().min()) > 1e-4
    torch.testing.assert_close(heads()["regression"].scores(y, info), scores.float())
    torch.testing.assert_close(heads()["regression"].targets(scores.float(), info), y)
    column = heads()["regression"].prepare(scores[:, 0], training)[0]
    assert torch.equal(column, y[:, :1])


def test_balance_gives_every_class_the_same_share():
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    weights = heads()["single"].balance(labels)
    shares = torch.zeros(3, dtype=torch.float64).index_add(0, labels, weights)
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3, dtype=torch.float64))


def test_balance_of_one_yes_or_no_is_half_and_half():
    labels = torch.tensor([[1]] * 5 + [[0]] * 95)
    weights = heads()["multi"].balance(labels)
    torch.testing.assert_close(float(weights[:5].sum()), 0.5)
    rare = torch.zeros(100, 3)
    rare[:50, 0], rare[:2, 1], rare[::2, 2] = 1, 1, 1
    weights = heads()["multi"].balance(rare)
    torch.testing.assert_close(float(weights.sum()), 1.0)
    assert float(weights[:2].sum()) > 5 * 2 / 100  # the rare label is seen far more often than it occurs


def test_strata_of_labels_that_go_together_are_their_rarest():
    labels = torch.tensor([[1, 1], [1, 0], [1, 0], [0, 0], [0, 1]])
    assert heads()["multi"].strata(labels).tolist() == [1, 0, 0, 2, 1]


def test_strata_of_scores_are_fifths(randn):
    scores = randn(100, 2)
    strata = heads()["regression"].strata(scores)
    assert strata.bincount().tolist() == [20] * 5
    assert float(scores[strata == 0, 0].max()) < float(scores[strata == 4, 0].min())


@pytest.mark.parametrize("head", ALL)
def test_guidance_follows_the_gradient_of_its_head(head, randn):
    x = 0.3 * randn(4, 2, 2, 2)
    target = gc.parse_target("(red:2), -old", NAMES, head)
    grad, log_prob = gc.log_prob_grad(classifier(head), x, 1.0, target)
    leaf = x.clone().requires_grad_()
    logits = classifier(head)(leaf, 1.0)
    if head == "single":
        p = logits.softmax(1)
        want = 2 * p[:, 0].log() + (1 - p[:, 2]).log()
    elif head == "multi":
        want = 2 * logits[:, 0].sigmoid().log() + (-logits[:, 2]).sigmoid().log()
    else:
        want = 2 * logits[:, 0] - logits[:, 2]
    torch.testing.assert_close(log_prob, want.detach())
    torch.testing.assert_close(grad, torch.autograd.grad(want.sum(), leaf)[0])


@pytest.mark.parametrize("head", ALL)
def test_steering_raises_what_was_asked_for_and_lowers_its_negative(head, randn):
    x = randn(4, 2, 2, 2)

    def after(text):
        target = gc.parse_target(text, NAMES, head)
        moved = gc.classifier_guided(lambda x, s: x, classifier(head), target, 0.05)(x, 1.0)
        return heads()[head].probabilities(classifier(head)(moved, 1.0))[:, 1]

    before = heads()[head].probabilities(classifier(head)(x, 1.0))[:, 1]
    assert bool((after("round") > before).all())
    assert bool((after("-round") < before).all())


def test_plain_labels_use_the_head_too(randn):
    x = randn(4, 2, 2, 2)
    for head in ALL:
        parsed = gc.parse_target("red | old | round | red", NAMES, head)
        want = gc.log_prob_grad(classifier(head), x, 1.0, parsed)
        torch.testing.assert_close(gc.log_prob_grad(classifier(head), x, 1.0, LABELS), want)


def test_labels_that_go_together_keep_their_gradient_however_sure():
    logits = torch.tensor([[40.0, 0.0, 0.0]], requires_grad=True)
    log_prob = gc.parse_target("-red", NAMES, "multi").log_prob(logits, "multi")
    torch.testing.assert_close(float(log_prob.detach()), -40.0)
    torch.testing.assert_close(float(torch.autograd.grad(log_prob.sum(), logits)[0][0, 0]), -1.0)


def test_entropy_aware_leaves_scores_as_they_are(randn):
    """Scores have the same entropy everywhere: there is no certainty to fade."""
    x, target = randn(4, 2, 2, 2), gc.parse_target("red", NAMES, "regression")

    def guided(head, aware):
        return gc.classifier_guided(lambda x, s: 0.3 * x, classifier(head), target, entropy_aware=aware)(x, 1.0)

    torch.testing.assert_close(guided("regression", True), guided("regression", False))
    assert not torch.allclose(guided("multi", True), guided("multi", False))


@pytest.mark.parametrize(
    ("head", "labels", "names", "sentence"),
    [
        ("single", torch.tensor([0, 1]), ["a"], "at least 2 labels, got 1"),
        ("single", torch.tensor([0, 2]), ["a", "b"], "indices from 0 to 1.*got 2"),
        ("single", torch.tensor([0.0, 1.0]), ["a", "b"], "whole numbers.*choose the head 'multi'"),
        (
            "single",
            torch.tensor([0, 0, 1]),
            ["a", "b"],
            "There is 1 picture of 'b', and at least 2 different ones are needed",
        ),
        ("multi", torch.zeros(4, 2), ["a"], "got 2 columns and 1 names"),
        ("multi", torch.full((4, 1), 2.0), ["a"], "must be 0 or 1"),
        ("multi", torch.full((4, 1), math.nan), ["a"], "must be 0 or 1"),
        ("multi", torch.tensor([1, 1, 1, 0]), ["a"], "There is 1 picture of 'not a'"),
        ("multi", torch.tensor([0, 0, 0, 0]), ["a"], "There are no pictures of 'a'"),
        ("regression", torch.tensor([1.0, math.inf, 2, 3]), ["a"], "finite"),
        ("regression", torch.ones(4), ["a"], "same score 'a'"),
        ("regression", torch.tensor([1.0, 2.0, 3.0]), ["a"], "There are 3 pictures.*at least 4"),
    ],
)
def test_labels_that_cannot_train_are_refused(head, labels, names, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence):
        heads()[head].check(labels, names, 2)
