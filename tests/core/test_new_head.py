"""A head is one file: put into a copy of the library, everything works with it, with no other edit."""

import json
import re

import pytest
from library_copy import ROOT, copied, python

from guidance_core.classifier.heads import heads

NEEDED = ["guidance_core", "devtools", "pyproject.toml"]
SUITE = [f"tests/core/{name}.py" for name in ("test_head_conformance", "conftest", "mixture")]

HEAD = '''"""Votes: labels that exclude each other, and of each picture how many of those asked named it."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ...errors import GuidanceError
from .base import Head, Measured, at_labels, check_columns, check_counts
from .label_format import COLUMNS


@dataclass(frozen=True)
class Votes(Head):
    """A softmax held to shares of votes: labels and y are float [N, K], each row summing to 1."""

    name = "votes"
    title = "labels with votes"
    kind = ("label", " by votes")
    label_format = COLUMNS
    accuracy_name = "agreement"
    exclusive = True
    has_prior = True
    scale_meaning = "1 is exact Bayes for a picture that all agree on."
    shown_name = "share of the votes"
    shown_title = "share of the votes, %"

    def check(self, labels, names, fewest):
        labels = check_columns(labels, names, self)
        if not bool(((labels.sum(1) - 1).abs() < 1e-4).all()):
            raise GuidanceError("The votes of each picture must sum to 1.")
        check_counts(self.occurrences(labels, len(names)).long(), names, fewest)

    def occurrences(self, labels, classes):
        return labels.sum(0)

    def balance(self, labels):
        weights = (labels.double() / labels.double().sum(0).clamp(min=1e-9)).sum(1)
        return weights / weights.sum()

    def strata(self, labels):
        return labels.argmax(1)

    def loss(self, logits, y, smoothing=0.0):
        y = y * (1 - smoothing) + smoothing / y.shape[1]
        return -(y * logits.log_softmax(1)).sum(1)

    def accuracy(self, logits, y):
        return (logits.argmax(1) == y.argmax(1)).float()

    def measure(self, logits, y):
        right = self.accuracy(logits, y)
        return Measured(float(right.mean()), logits.softmax(1).max(1).values, right)

    def chance(self, y):
        frequency = y.mean(0)
        return float(y.argmax(1).bincount().max() / len(y)), float(torch.special.entr(frequency).sum())

    def probabilities(self, logits):
        return logits.softmax(1)

    def mean(self, logits):
        return logits.log_softmax(2).logsumexp(0) - math.log(len(logits))

    def log_prob(self, logits, labels, negative):
        is_label = F.one_hot(labels, logits.shape[1]).bool()
        others = logits.masked_fill(is_label, torch.finfo(logits.dtype).min / 4).logsumexp(1)
        log_odds = at_labels(logits, labels) - others
        return F.logsigmoid(torch.where(negative, -log_odds, log_odds))

    def entropy(self, logits):
        log_p = logits.log_softmax(1)
        return -(log_p.exp() * log_p).sum(1)

    def max_entropy(self, classes):
        return math.log(classes)

    def amount(self, shown):
        return f"{shown:.0f} %"

    def in_words(self, shown):
        return f"{self.amount(shown)} of the votes"
'''
BROKEN = {  # fault: (right, wrong, the conformance test that finds it)
    "over_the_batch": (
        "return -(y * logits.log_softmax(1)).sum(1)",
        "return -(y * logits.log_softmax(1)).sum(1).mean().expand(len(y))",
        "test_samples_do_not_change_each_other",
    ),
    "vanishing": (
        "return F.logsigmoid(torch.where(negative, -log_odds, log_odds))",
        "p = at_labels(logits.softmax(1), labels)\n        return torch.where(negative, 1 - p, p).log()",
        "test_steering_keeps_a_gradient_however_sure",
    ),
    "no_prior": ("has_prior = True", "has_prior = False", "test_a_prior_is_a_shift_of_the_logits"),
    "half_the_loss": (
        "float(torch.special.entr(frequency).sum())",
        "float(torch.special.entr(frequency).sum() / 2)",
        "test_chance_is_the_best_that_one_answer_to_all_can_be",
    ),
    "mean_of_logits": (
        "logits.log_softmax(2).logsumexp(0) - math.log(len(logits))",
        "logits.mean(0)",
        "test_copies_are_averaged_in_probability",
    ),
}
USED = """
import json, torch
from pathlib import Path
import guidance_core as gc
from guidance_core.assess.assessment import assess
from guidance_core.assess.page import card_picture
from guidance_core.classifier.noisy import read_card
from guidance_core.commands.inspect import described
from guidance_core.data.shard_writer import write_shards
from guidance_core.data.shards import ShardSource
from guidance_core.files import read_header
from guidance_core.progress import run_to_end

generator = torch.Generator().manual_seed(0)
which = torch.arange(60) % 3
votes = 0.8 * torch.nn.functional.one_hot(which, 3) + 0.2 / 3
latents = 0.3 * torch.randn(60, 1, 8, 8, generator=generator) + (which - 1.0)[:, None, None, None]
names = ["red", "round", "old"]
run_to_end(write_shards(zip(latents, votes), "shards", names, head="votes"))
source = ShardSource.open("shards")
*_, last = gc.train_classifier(
    source, label_names=names, head=source.head, steps=60, batch=30, hold_out=0.3, log_snr_range=(0.0, 8.0),
    learning_rate=3e-3, label_smoothing=0.05, entropy_penalty=0.0,
)
result = run_to_end(assess(last.classifier, source.load(last.held_out), source.labels[last.held_out]))
file = Path("votes.safetensors")
result.classifier.save(file)
loaded = gc.NoisyClassifier.load(file)
x = latents[:6]
target = gc.parse_target("-red, (round:2)", loaded.labels, loaded.head)
moved = gc.classifier_guided(lambda x, sigma: x, loaded, target, 0.5)(x, 0.5)
before, after = (target.log_prob(loaded(each, 0.5), loaded.head).mean().item() for each in (x, moved))
print(json.dumps({
    "head": read_card(file).head.name,
    "loaded": repr(loaded),
    "logits": torch.equal(loaded(x, 0.5), result.classifier(x, 0.5)),
    "trained": last.accuracy,
    "accuracy": result.evaluation.bins[-1].accuracy,
    "temperatures": len(loaded.record.temperatures),
    "steered": after - before,
    "page": list(card_picture(loaded.card, result.evaluation.reliability).shape),
    "inspected": list(described(loaded.card, read_header(file, "noisy classifier", None))),
    "reason": result.suggestion.reason,
    "told": loaded.head.in_words(loaded.head.shown(torch.tensor(0.25).log()).item()),
    "told_at_the_end": loaded.head.at_the_end(25.0, 4.0),
}))
"""


def broken(fault):
    """The head under the fault's name, with the fault in it."""
    right, wrong, _ = BROKEN[fault]
    assert HEAD.count(right) == 1, fault
    return HEAD.replace(right, wrong).replace('name = "votes"', f'name = "{fault}"')


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    def make(**named):
        root = copied(tmp_path_factory.mktemp("copy"), NEEDED + SUITE)
        for name, text in named.items():
            (root / f"guidance_core/classifier/heads/{name}.py").write_text(text, encoding="utf-8")
        return root

    return make


@pytest.fixture(scope="module")
def extended(copy):
    return copy(votes=HEAD)


def test_it_is_trained_judged_kept_and_told_at_once(extended):
    said = json.loads(python(extended, "-c", USED).splitlines()[-1])
    assert said["head"] == "votes" and said["logits"] and said["temperatures"] == 10
    assert said["loaded"].startswith("NoisyClassifier(3 labels by votes: 'red', 'round', 'old'; latent_encoder, ")
    assert said["trained"] > 0.9 and said["accuracy"] > 0.9 and said["steered"] > 0
    assert said["told"] == "25 % of the votes" and said["page"][2] == 3
    assert said["told_at_the_end"] == "share of the votes at the end: 25 %, from 4 % at the start"
    assert any("3 (labels with votes): red, round, old" in line for line in said["inspected"])
    assert any("agreement" in line for line in said["inspected"])
    assert said["reason"].endswith("1 is exact Bayes for a picture that all agree on.")


def test_names_of_heads_are_choices_and_refusals_at_once(extended):
    code = """
import guidance_core as gc
from guidance_core.params import params_of
print(*params_of(gc.TrainSettings)["head"].options)
try:
    gc.NoisyClassifier(None, ["a"], head="many")
except gc.GuidanceError as error:
    print(error)
"""
    options, refusal = python(extended, "-c", code).splitlines()
    assert options.split() == ["single", "multi", "regression", "votes"]
    assert refusal.endswith("choose one of single, multi, regression, votes.")


def test_the_conformance_suite_runs_over_it_and_passes(extended):
    printed = python(extended, "-m", "pytest", "-q", "-p", "no:cacheprovider", SUITE[0], "-k", "votes")
    found = re.search(r"^(\d+) passed, (\d+) deselected", printed, re.MULTILINE)
    assert found and int(found[2]) == 3 * int(found[1]), printed


def test_a_broken_one_does_not_pass(copy):
    """Each fault is found by the test for it."""
    root = copy(**{fault: broken(fault) for fault in BROKEN})
    tests = " or ".join(f"({fault} and {test})" for fault, (_, _, test) in BROKEN.items())
    printed = python(root, "-m", "pytest", "-q", "-p", "no:cacheprovider", SUITE[0], "-k", tests)
    found = set(re.findall(r"^FAILED \S+::(\w+)\[(\S+)\]", printed, re.MULTILINE))
    assert found == {(test, fault) for fault, (_, _, test) in BROKEN.items()}, printed


def test_nobody_else_compares_a_name_of_a_head():
    name = f"""["']({"|".join(heads())})["']"""
    named = re.compile(rf"head (==|!=)|(==|!=) {name}|{name} (==|!=)|(^|[{{,])\s*{name}:|\.get\(head")
    found = []
    for folder in ("guidance_core", "nodes"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if "heads" not in file.parts:
                lines = file.read_text(encoding="utf-8").splitlines()
                found += [f"{file.name}: {line.strip()}" for line in lines if named.search(line)]
    assert found == []
