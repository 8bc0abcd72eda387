"""Negatives in a stream: two sets side by side in one proportion, however many there are of either."""

import itertools
from collections import Counter

import pytest
import torch

import guidance_core as gc
from guidance_core.data.shard_writer import write_shards
from guidance_core.data.sources import TensorSource
from guidance_core.data.stream import ShardStream
from guidance_core.data.stream_against import InMemory, StreamAgainst
from guidance_core.train.streamed import Streamed, StreamedTargets

NAMES = ["dark", "bright", "other"]


def stream(folder, latents, labels, names, head="single", shard_bytes=900):
    list(write_shards(zip(latents, labels, strict=True), folder, names, head=head, shard_bytes=shard_bytes))
    return ShardStream.open(folder, buffer=25)


@pytest.fixture
def examples(tmp_path, randn):
    """60 pictures in several shards, every fourth of them bright."""
    labels = [int(i % 4 == 0) for i in range(60)]
    latents = randn(60, 1, 4, 4, dtype=torch.float32) / 2 + torch.tensor(labels)[:, None, None, None] * 2
    return stream(tmp_path / "examples", latents, labels, NAMES[:2])


@pytest.fixture(params=["shards", "memory"])
def others(request, tmp_path, randn):
    """18 of another kind."""
    latents = randn(18, 1, 4, 4, seed=1, dtype=torch.float32) / 2 - 2
    if request.param == "memory":
        return InMemory(TensorSource(latents, torch.zeros(18, dtype=torch.long)))
    return stream(tmp_path / "others", latents, [0] * 18, ["any"])


@pytest.fixture
def joined(examples, others):
    return StreamAgainst.open(examples, others, "other")


def test_every_batch_has_a_fair_share_of_both_and_all_of_both_come(joined):
    batches = list(itertools.islice(joined.order(9, 5).batches(), 60))
    assert all(int((batch >= 60).sum()) == 3 for batch in batches)
    seen = Counter(torch.cat(batches).tolist())
    assert set(seen) == set(range(78))
    assert {seen[i] for i in range(60)} <= {5, 6, 7} and {seen[i] for i in range(60, 78)} <= {9, 10, 11}
    places = torch.stack([(batch >= 60).float() for batch in batches]).mean(0)
    assert places.min() > 0.1 and places.max() < 0.6  # the place says at which noise level it is learned
    again = list(itertools.islice(joined.order(9, 5).batches(), 60))
    assert all(torch.equal(one, other) for one, other in zip(batches, again, strict=True))


def test_numbers_lead_to_latents_and_labels_of_both(joined, examples):
    some = torch.tensor([77, 0, 60, 3])
    assert joined.labels_of(some).tolist() == [2, 1, 2, 0]
    assert torch.equal(joined.load(some)[[1, 3]], examples.load(some[[1, 3]]))
    assert joined.load(some)[[0, 2]].mean() < -1.5
    assert len(joined) == 78 and joined.occurrences.tolist() == [45, 15, 18] and joined.label_names == tuple(NAMES)


def test_all_classes_weigh_the_same_in_what_batches_bring(joined):
    learned = Streamed(StreamedTargets(joined, {}), 0.0, 0, True)
    brought = joined.labels_of(torch.cat(list(itertools.islice(joined.order(9, 0).batches(), 40))))
    weighed = torch.zeros(3).index_add_(0, brought, learned.weights(brought))
    torch.testing.assert_close(weighed / weighed.mean(), torch.ones(3), rtol=0.02, atol=0)


def test_nothing_held_out_is_learned_and_validation_has_the_same_proportion(joined):
    kept = set(torch.cat(list(itertools.islice(joined.order(9, 2, 0.3).batches(), 60))).tolist())
    held = joined.held_out(0.3, 2, 1000).tolist()
    assert not kept & set(held) and len(held) == len(set(held))
    others = sum(number >= 60 for number in held)
    assert others >= 2 and len(held) - others <= 2 * others


def test_it_trains_and_goes_on_bit_for_bit(joined, tmp_path):
    settings = {"steps": 12, "batch": 12, "hold_out": 0.2, "learning_rate": 5e-3, "evaluate_every": 4}

    def training(file=None):
        return gc.train_classifier(joined, label_names=NAMES, checkpoint=file, **settings)

    whole = list(training())
    run = training(tmp_path / "half.safetensors")
    half = list(itertools.islice(run, 5))
    run.close()
    again = half + list(training(tmp_path / "half.safetensors"))
    assert [(step.loss, step.validation) for step in again] == [(step.loss, step.validation) for step in whole]
    clean = torch.stack([torch.full((1, 4, 4), value) for value in (0.0, 2.0, -2.0)])
    assert whole[-1].classifier(clean, torch.full((3,), 0.1), gc.VE).argmax(1).tolist() == [0, 1, 2]


def test_what_cannot_be_set_side_by_side_is_refused(examples, tmp_path, randn):
    wide = InMemory(TensorSource(randn(4, 1, 4, 8, dtype=torch.float32), torch.zeros(4, dtype=torch.long)))
    with pytest.raises(gc.GuidanceError, match=r"the examples have \[1, 4, 4\], the negatives \[1, 4, 8\]"):
        StreamAgainst.open(examples, wide, "other")
    tags = stream(tmp_path / "tags", randn(8, 1, 4, 4, dtype=torch.float32), [[1.0, 0.0]] * 8, ["a", "b"], "multi")
    with pytest.raises(gc.GuidanceError, match="pictures of one label each, not against tags or scores"):
        StreamAgainst.open(tags, examples, "other")
    with pytest.raises(gc.GuidanceError, match="must have 2 pictures at least, got 1"):
        StreamAgainst.open(examples, examples, "other").order(1, 0)
