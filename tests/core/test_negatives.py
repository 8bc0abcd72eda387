"""Self-made negatives: Bayes' rule under another prior, and twenty pictures that suffice to steer to them."""

import dataclasses
import time

import pytest
import torch

import guidance_core as gc
from guidance_core import demo
from guidance_core.assess.assessment import assess
from guidance_core.classifier.latent_encoder import LatentEncoder
from guidance_core.demo.data import LABELS, load_digits
from guidance_core.progress import Progress, run_to_end
from guidance_core.train.negatives import (
    PRIOR,
    against,
    draw_from,
    draw_negatives,
    train_against_negatives,
    with_prior,
)

TINY = {"width": 8, "multipliers": [1, 2], "depth": 1, "embedding": 8}


@pytest.fixture
def classifier():
    """Two styles and the negatives, weights at random and switched on, in double precision."""
    parameters = {"channels": 2, "classes": 3, **TINY}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = LatentEncoder(**parameters).double()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    network.eval().requires_grad_(False)
    return gc.NoisyClassifier(network, ["ink", "oil", "other"], parameters=parameters)


def halves(count, left):
    """Latents [count, 1, 8, 8] whose left or right half is bright."""
    latents = -torch.ones(count, 1, 8, 8)
    latents[..., :4] = 1
    return latents if left else latents.flip(-1)


def drawing(count, generator):
    return torch.randn(count, 2, 4, 4, generator=generator)


# --- drawing ----------------------------------------------------------------------------------------------------------


def test_progress_and_the_same_samples_again():
    seen = []
    latents = run_to_end(draw_negatives(drawing, 7, batch=3), seen.append)
    assert seen == [Progress(3, 7), Progress(6, 7), Progress(7, 7)]
    assert latents.shape == (7, 2, 4, 4) and len({latent.sum().item() for latent in latents}) == 7
    assert torch.equal(latents, run_to_end(draw_negatives(drawing, 7, batch=3)))
    assert not torch.equal(latents, run_to_end(draw_negatives(drawing, 7, batch=3, seed=1)))


def test_samples_of_a_denoiser():
    """Of a model that knows one sample only."""
    target = torch.full((1, 1, 4, 4), 0.7)
    draw = draw_from(lambda x, sigma: target.expand_as(x), (1, 4, 4), torch.tensor([10.0, 1.0, 0.0]))
    torch.testing.assert_close(run_to_end(draw_negatives(draw, 3)), target.expand(3, -1, -1, -1))


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda count, generator: torch.zeros(count + 1, 1, 2, 2), r"must draw 2 finite samples.*drew \[3, 1, 2, 2\]"),
        (lambda count, generator: torch.zeros(count, 4), r"it drew \[2, 4\]"),
        (lambda count, generator: torch.full((count, 1, 2, 2), float("nan")), "not all finite"),
    ],
)
def test_a_model_that_draws_something_else(draw, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence):
        run_to_end(draw_negatives(draw, 2))


def test_counts_are_checked_before_anything_is_drawn():
    for options in ({"count": 0}, {"count": 1, "batch": 0}):
        with pytest.raises(gc.GuidanceError, match="at least 1"):
            draw_negatives(drawing, **options)


# --- the data ---------------------------------------------------------------------------------------------------------


def test_examples_come_before_the_negatives():
    source, names = against(
        {"ink": torch.zeros(2, 1, 2, 2), "oil": torch.ones(1, 1, 2, 2)}, torch.zeros(3, 1, 2, 2) + 2
    )
    assert names == ["ink", "oil", "other"]
    assert source.labels.tolist() == [0, 0, 1, 2, 2, 2]
    assert source.load(torch.arange(6))[:, 0, 0, 0].tolist() == [0, 0, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("examples", "sentence"),
    [
        ({}, "Give latents by label"),
        ({"other": torch.zeros(2, 1, 2, 2)}, "no label 'other'"),
        ({"ink": torch.zeros(2, 1, 2, 3)}, r"'ink' has \[1, 2, 3\], the negatives have \[1, 2, 2\]"),
    ],
)
def test_examples_that_do_not_fit(examples, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence):
        against(examples, torch.zeros(3, 1, 2, 2))


# --- the prior --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperatures", [(), ((-1.0, 2.5), (3.0, 0.5))])
@pytest.mark.parametrize("prior", [0.01, 0.2])
def test_it_is_bayes_rule_under_another_prior(classifier, randn, prior, temperatures):
    """Of what the classifier answers, its temperatures included: they say how sure it is, and not how rare a style."""
    classifier, x = classifier.recording(temperatures=temperatures), randn(5, 2, 8, 8)
    before = classifier(x, 1.0).double().softmax(1)
    of_each = torch.tensor([prior, prior, 1 - 2 * prior], dtype=torch.float64)
    wanted = before * of_each / (before * of_each).sum(1, keepdim=True)
    torch.testing.assert_close(with_prior(classifier, prior)(x, 1.0).double().softmax(1), wanted)
    torch.testing.assert_close(classifier(x, 1.0).double().softmax(1), before)  # it was not touched


def test_equal_priors_change_nothing(classifier, randn):
    x = randn(5, 2, 8, 8)
    torch.testing.assert_close(with_prior(classifier, 1 / 3)(x, 1.0), classifier(x, 1.0))


def test_a_small_prior_steers_by_the_odds(classifier, randn):
    """Of log p's gradient, the factor (1 - p) that makes it fade is gone."""
    x = randn(4, 2, 8, 8)
    target = gc.parse_target("ink", classifier.labels)
    grad, log_prob = gc.log_prob_grad(with_prior(classifier, 1e-5), x, 1.0, target)
    leaf = x.clone().requires_grad_()
    logits = classifier(leaf, 1.0).double()
    (odds,) = torch.autograd.grad((logits[:, 0] - logits[:, 2]).sum(), leaf)
    torch.testing.assert_close(grad, odds, rtol=1e-3, atol=1e-3 * float(odds.abs().max()))
    faded, log_prob = gc.log_prob_grad(classifier, x, 1.0, target)
    assert log_prob.exp().max() > 0.2 and (faded.norm() / odds.norm()) < 0.9


def test_the_prior_is_in_the_file_and_is_given_once(classifier, tmp_path, randn):
    rare = with_prior(classifier, 0.1)
    rare.save(tmp_path / "rare.safetensors")
    loaded = gc.NoisyClassifier.load(tmp_path / "rare.safetensors")
    assert loaded.record.training["expected_share"] == 0.1
    assert loaded.record.suggestion.scale == 4 and "begin with a scale of 4" in loaded.record.suggestion.reason
    x = randn(2, 2, 8, 8, dtype=torch.float32)
    torch.testing.assert_close(loaded(x, 1.0), rare(x.double(), 1.0), rtol=1e-4, atol=1e-4)
    with pytest.raises(gc.GuidanceError, match="already has a prior of 0.1"):
        with_prior(loaded)


def test_figures_are_those_without_it(classifier, randn):
    """Held-out examples are not in the shares of the prior, and temperatures would undo it."""
    latents, labels = randn(12, 2, 8, 8), torch.arange(12) % 3
    rare = with_prior(classifier, 0.01)
    ours, plain = (run_to_end(assess(each, latents, labels, repeats=4)) for each in (rare, classifier))
    assert ours.evaluation.bins == plain.evaluation.bins
    assert ours.classifier.record.temperatures == plain.classifier.record.temperatures != ()
    assert ours.classifier.record.prior == rare.record.prior != ()


@pytest.mark.parametrize("prior", [0.0, 0.5, -0.1, float("nan")])
def test_priors_out_of_range(classifier, prior):
    with pytest.raises(gc.GuidanceError, match="prior of each label must be above 0, and all 2 below 1"):
        with_prior(classifier, prior)


def test_what_can_have_no_prior(classifier):
    with pytest.raises(gc.GuidanceError, match="of the head 'single'"):
        with_prior(dataclasses.replace(classifier, head="multi"))
    with pytest.raises(gc.GuidanceError, match="with a label 'rest'"):
        with_prior(classifier, other="rest")
    with pytest.raises(gc.GuidanceError, match="with a label 'other' can be given a prior"):
        with_prior(demo.load().classifier)
    with pytest.raises(gc.GuidanceError, match="without balance"):
        with_prior(classifier.recording(training={"balance": False}))


# --- training ---------------------------------------------------------------------------------------------------------

QUICK = {"steps": 4, "batch": 8}


def test_every_classifier_of_the_run_has_the_prior():
    examples, negatives = halves(4, left=True), torch.cat([halves(8, left=False), halves(2, left=True)])
    source, names = against({"left": examples}, negatives)
    plain = list(gc.train_classifier(source, label_names=names, **QUICK))
    steps = list(train_against_negatives({"left": examples}, negatives, **QUICK))
    assert [step.loss for step in steps] == [step.loss for step in plain]
    assert [step.classifier is None for step in steps] == [True] * 3 + [False]
    for step, before in zip(steps, plain, strict=True):
        wanted = with_prior(before.best(), PRIOR)
        torch.testing.assert_close(step.best()(negatives, 1.0), wanted(negatives, 1.0))
    assert steps[-1].classifier.record.training["expected_share"] == PRIOR


def test_an_interrupted_run_keeps_its_checkpoint(tmp_path):
    arguments = ({"left": halves(4, left=True)}, halves(8, left=False))
    for step in train_against_negatives(*arguments, checkpoint=tmp_path / "run", **QUICK):
        if step.step == 2:
            break
    assert (tmp_path / "run").exists()
    resumed = list(train_against_negatives(*arguments, checkpoint=tmp_path / "run", **QUICK))
    whole = list(train_against_negatives(*arguments, **QUICK))
    assert [step.step for step in resumed] == [3, 4]
    assert [step.loss for step in resumed] == [step.loss for step in whole[2:]]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"prior": 1.0}, "prior of each label"),
        ({"balance": False}, "balanced classes"),
        ({"head": "multi"}, "the head 'single'"),
        ({"steps": 0}, "steps must be in"),
    ],
)
def test_training_refuses_at_once(options, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence):
        train_against_negatives({"left": halves(4, left=True)}, halves(8, left=False), **options)


# --- twenty pictures --------------------------------------------------------------------------------------------------


def reached(digit, negatives=400, pictures=20, **options):
    """{scale: share of 200 samples that the judge takes for the digit}, the suggested scale, and seconds."""
    d, (train, _) = demo.load(), load_digits()
    began = time.monotonic()
    real = train.x0[train.labels == digit]
    real = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(1))[:pictures]]
    draw = draw_from(d.uncond, d.shape, gc.trailing(d.sigmas, 25))
    made = run_to_end(draw_negatives(draw, negatives, batch=100))
    *_, last = train_against_negatives({LABELS[digit]: real}, made, latent_space="digits", **options)
    noise = torch.randn(200, *d.shape, generator=torch.Generator().manual_seed(7))
    suggested = last.classifier.record.suggestion.scale
    shares = {}
    for scale in (0.0, 2.0, suggested):
        guided = gc.classifier_guided(d.uncond, last.classifier, torch.zeros(200, dtype=torch.long), scale)
        images = d.to_image(gc.sample(guided, noise, gc.trailing(d.sigmas, 25)))
        shares[scale] = d.judge.accuracy(images, torch.full((200,), digit))
    return shares, suggested, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("digit", [3, 7, 8])
def test_twenty_pictures_and_self_made_negatives_steer_the_demo(digit):
    """With the settings that everyone gets, at the scale that the file suggests."""
    shares, suggested, _ = reached(digit)
    assert shares[0.0] < 0.2
    assert shares[suggested] >= 0.8
