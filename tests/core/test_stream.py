"""Streams of shards: an order by numbers alone, training that is the same in any number of processes and goes on."""

import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

import guidance_core as gc
from guidance_core.__main__ import main
from guidance_core.classifier.heads import as_head
from guidance_core.data.order import Order
from guidance_core.data.shard_writer import write_index, write_shard, write_shards
from guidance_core.data.shards import ShardSource
from guidance_core.data.stream import ShardStream, held_out
from guidance_core.distributed import Process
from guidance_core.train.data import NoisyData
from guidance_core.train.streamed import Streamed, StreamedTargets

ROOT = Path(gc.__file__).parents[1]
NAMES = ["dark", "bright"]
SETTINGS = {"steps": 6, "batch": 7, "learning_rate": 5e-3, "hold_out": 0.3, "evaluate_every": 3}


@pytest.fixture
def folder(tmp_path, randn):
    """Three shards of latents 8 by 8 and two of 4 by 12; a third of them is bright."""
    entries = []
    for number, (count, shape) in enumerate([(20, (8, 8)), (9, (4, 12)), (14, (8, 8)), (13, (4, 12)), (4, (8, 8))]):
        labels = (torch.arange(count) % 3 == 0).long()
        latents = randn(count, 2, *shape, seed=number, dtype=torch.float32) / 2 + labels[:, None, None, None]
        groups = torch.arange(count) + 100 * number
        file = tmp_path / f"shard-{number}.safetensors"
        entries.append(write_shard(file, latents.half(), labels, groups) | {"shape": [2, *shape]})
    write_index(tmp_path, NAMES, as_head("single"), "made up", [2, 8, 8], entries, occurrences=[38, 22])
    return tmp_path


# --- the order --------------------------------------------------------------------------------------------------------


def order(batch=4, buffer=30, seed=0, kept=None, counts=(20, 9, 14, 13, 4), sizes=(0, 1, 0, 1, 0)):
    return Order(counts, sizes, batch, buffer, seed, kept)


def test_every_example_comes_once_an_epoch_in_batches_of_one_size():
    size_of = torch.tensor([0] * 20 + [1] * 9 + [0] * 14 + [1] * 13 + [0] * 4)
    batches = list(itertools.islice(order().batches(), 45))  # 60 examples an epoch, 15 batches but for what waits
    assert all(len(batch) == 4 and len(size_of[batch].unique()) == 1 for batch in batches)
    seen = Counter(torch.cat(batches).tolist())
    assert len(seen) == 60 and set(seen.values()) <= {2, 3, 4}
    assert [batch.tolist() for batch in batches] == [b.tolist() for b in itertools.islice(order().batches(), 45)]
    assert batches[0].tolist() != next(order(seed=1).batches()).tolist()
    assert torch.cat(batches[:14]).tolist() != torch.cat(batches[15:29]).tolist()


def test_a_buffer_is_shuffled_together_and_no_more_of_it_is_read():
    shards = list(range(50))
    first = list(itertools.islice(order(10, 1, counts=[10] * 50, sizes=[0] * 50).batches(), 50))
    assert sorted(int(batch[0]) // 10 for batch in first) == shards  # a shard a batch
    assert all(len((batch // 10).unique()) == 1 for batch in first)
    mixed = next(order(10, 200, counts=[10] * 50, sizes=[0] * 50).batches())
    assert len((mixed // 10).unique()) > 3
    asked = []

    def kept(shard):
        asked.append(shard)
        return torch.ones(10, dtype=torch.bool)

    next(order(10, 20, kept=kept, counts=[10] * 50, sizes=[0] * 50).batches())
    assert len(asked) == 2


def test_fewer_examples_than_a_batch_fill_it_over_epochs():
    batch = next(order(10, counts=[4], sizes=[0]).batches())
    assert sorted(batch[:4].tolist()) == sorted(batch[4:8].tolist()) == [0, 1, 2, 3]
    assert list(order(kept=lambda shard: torch.zeros((20, 9, 14, 13, 4)[shard], dtype=torch.bool)).batches()) == []


def test_held_out_is_a_share_of_the_groups_whoever_looks():
    groups = torch.arange(100_000) // 2
    mask = held_out(groups, 0.1, 0)
    assert abs(float(mask.double().mean()) - 0.1) < 0.005
    assert torch.equal(mask[::2], mask[1::2])
    assert torch.equal(held_out(groups[500:600], 0.1, 0), mask[500:600])
    assert float((mask ^ held_out(groups, 0.1, 1)).double().mean()) > 0.15
    assert not bool((mask & ~held_out(groups, 0.2, 0)).any())


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_stream_gives_what_is_in_the_shards(tmp_path, randn):
    latents = randn(7, 2, 4, 6, dtype=torch.float16)
    list(write_shards(zip(latents, [0, 1, 1, 0, 1, 0, 1], strict=True), tmp_path, NAMES, shard_bytes=200))
    stream, source = ShardStream.open(tmp_path), ShardSource.open(tmp_path)
    some = torch.tensor([6, 0, 3, 3, 2])
    assert torch.equal(stream.load(some), source.load(some))
    assert torch.equal(stream.labels_of(some), source.labels[some])
    assert stream.occurrences.tolist() == [3, 4] and len(stream) == 7
    assert torch.equal(torch.cat([stream.groups_of(i) for i in range(len(stream.shards))]), source.groups)


def test_sizes_and_their_examples(folder):
    stream = ShardStream.open(folder)
    assert stream.shapes == [(2, 8, 8), (2, 4, 12)]
    assert stream.size_of(torch.tensor([0, 20, 28, 29, 59])).tolist() == [0, 1, 1, 0, 0]
    assert stream.load(torch.tensor([25, 45])).shape == (2, 2, 4, 12)


def test_opening_reads_the_index_and_no_shard(folder):
    for file in folder.glob("*.safetensors"):
        file.unlink()
    stream = ShardStream.open(folder)
    assert len(stream) == 60
    with pytest.raises(gc.GuidanceError, match="no latent shard file 'shard-0.safetensors'"):
        stream.load(torch.tensor([3]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"occurrences": [1]}, "'occurrences' must be a whole number for each label"),
        ({"occurrences": [1, "x"]}, "'occurrences' must be"),
        ({"shards": [{"file": "a.safetensors", "count": 1, "shape": [1]}]}, "'shape' of 'a.safetensors' must be"),
        ({"shape": [3, 8, 8]}, "differ in more than their size"),
    ],
)
def test_a_bad_index_is_refused(folder, change, sentence):
    index = json.loads((folder / "index.json").read_text())
    index["shards"] = [{k: v for k, v in e.items() if (k, v) != ("shape", [2, 8, 8])} for e in index["shards"]]
    (folder / "index.json").write_text(json.dumps(index | change))
    with pytest.raises(gc.GuidanceError, match=sentence):
        ShardStream.open(folder)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_shard_that_is_torn_or_gone_while_in_use_ends_training_in_a_sentence(folder, workers):
    stream = ShardStream.open(folder, workers=workers)
    steps = gc.train_classifier(stream, label_names=NAMES, **SETTINGS)
    next(steps)
    for file in folder.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:600])
    with pytest.raises(gc.GuidanceError, match=r"'shard-\d.safetensors' (can no longer be read|is not a whole)"):
        list(steps)


# --- training ---------------------------------------------------------------------------------------------------------


def figures(steps):
    return [[s.step, s.loss, s.accuracy, *([s.validation.loss] if s.validation else [])] for s in steps]


def training(folder, file=None, **changes):
    stream = ShardStream.open(folder, buffer=25)
    return gc.train_classifier(stream, label_names=NAMES, checkpoint=file, **SETTINGS | changes)


def test_a_stream_trains_and_goes_on_bit_for_bit(folder, tmp_path):
    whole = figures(training(folder))
    assert len(whole) == 6 and len(whole[2]) == 4
    run = training(folder, tmp_path / "half.safetensors")
    half = figures(itertools.islice(run, 4))
    run.close()
    assert half + figures(training(folder, tmp_path / "half.safetensors")) == whole
    last = list(training(folder, steps=30, batch=12, hold_out=0.25))[-1]
    assert last.accuracy > 0.8 and last.validation.accuracy > 0.7


def test_parts_of_a_batch_are_its_sum(folder):
    whole, parts = figures(training(folder)), figures(training(folder, accumulate=3))
    for one, other in zip(whole, parts, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_processes_share_every_batch(folder):
    """The parts of two processes are the batch of one, augmented or not."""
    stream = ShardStream.open(folder, buffer=25)
    targets = StreamedTargets(stream, {})
    learned = Streamed(targets, 0.3, 0, True)

    def fed(process, whole):
        data = NoisyData(stream, targets, (-5.0, 5.0), torch.device("cpu"), process)
        return list(itertools.islice(learned.feed(data, 7, torch.Generator(), 2, whole), 3))

    for one, first, second in zip(fed(Process(), False), *(fed(Process(r, 2), False) for r in (0, 1)), strict=True):
        assert torch.equal(one.x0, torch.cat([first.x0, second.x0]))
        assert torch.equal(one.y, torch.cat([first.y, second.y]))
        assert torch.equal(one.weights, torch.cat([first.weights, second.weights]))
    for one, first in zip(fed(Process(), True), fed(Process(0, 2), True), strict=True):
        assert torch.equal(one.x0, first.x0) and len(first.y) == 3


def test_classes_weigh_the_same_and_nothing_held_out_is_learned(folder):
    stream = ShardStream.open(folder)
    learned = Streamed(StreamedTargets(stream, {}), 0.3, 0, True)
    labels = stream.labels_of(torch.arange(20))
    weights = learned.weights(labels)
    assert weights.unique().tolist() == pytest.approx([60 / (2 * 38), 60 / (2 * 22)])
    assert Streamed(learned.targets, 0.3, 0, False).weights(labels) is None
    kept = set(torch.cat(list(itertools.islice(stream.order(4, 0, 0.3).batches(), 40))).tolist())
    held = set(stream.held_out(0.3, 0, 1000).tolist())
    assert kept | held == set(range(60)) and not kept & held and 9 <= len(held) <= 27


@pytest.mark.parametrize("head", ["multi", "regression"])
def test_streams_of_other_heads(tmp_path, randn, head):
    latents = randn(30, 1, 4, 4, dtype=torch.float32)
    labels = [[float(i % 2), float(i % 5 == 0)] for i in range(30)]
    list(write_shards(zip(latents, labels, strict=True), tmp_path, ["a", "b"], head=head, shard_bytes=200))
    stream = ShardStream.open(tmp_path)
    if head == "multi":
        weights = stream.head.weights(torch.tensor(labels), stream.occurrences, 30)
        assert weights.mean() == pytest.approx(1) and weights[0] > weights[1]
    settings = SETTINGS | {"head": head, "hold_out": 0.2}
    assert len(list(gc.train_classifier(stream, label_names=["a", "b"], **settings))) == 6


def test_what_cannot_be_streamed_is_refused(folder):
    with pytest.raises(gc.GuidanceError, match="are 22 pictures of 'bright'|There are 1 pictures|at least"):
        index = json.loads((folder / "index.json").read_text())
        (folder / "index.json").write_text(json.dumps(index | {"occurrences": [59, 1]}))
        list(training(folder))
    with pytest.raises(gc.GuidanceError, match="buffer must be at least 1 and its workers 0, got 0 and 0"):
        ShardStream.open(folder, buffer=0)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_streams_and_judges(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("guidance_core.commands.train.DRAWS", 1)
    out = tmp_path / "a.safetensors"
    words = ["train", "--shards", folder, "--out", out, "--steps", "4", "--batch", "8", "--hold-out", "0.3"]
    assert main([*map(str, words), "--workers", "0", "--device", "cpu", "--accumulate", "2"]) == 0
    said = capsys.readouterr().err
    assert "60 latents" in said and "accuracy" in said and "Saved" in said
    assert gc.NoisyClassifier.load(out).labels == NAMES


def test_negatives_are_read_or_drawn(tmp_path, randn, capsys):
    style = randn(12, 1, 16, 16, dtype=torch.float32)
    for name, label in (("style", "mine"), ("others", "any")):
        list(write_shards(((latent, 0) for latent in style), tmp_path / name, [label], latent_space="digits"))
    out = tmp_path / "a.safetensors"
    words = ["train", "--shards", tmp_path / "style", "--out", out, "--steps", 2, "--batch", 4, "--device", "cpu"]
    stream = ["--stream", "--workers", 0]
    read, drawn = ["--negatives", tmp_path / "others"], ["--negatives", "digits", "--negative-count", 4]
    for negatives in (read, drawn, [*read, *stream], [*drawn, *stream]):
        assert main([str(word) for word in words + negatives]) == 0, capsys.readouterr().err
        classifier = gc.NoisyClassifier.load(out)
        assert classifier.labels == ["mine", "other"]
        assert classifier.record.training["expected_share"] == 0.01
    for wrong in ([], ["--stream", "--workers", 0]):
        assert main([str(word) for word in [*words, "--negatives", "x", *wrong]]) == 2
        assert "must be a folder of shards, digits or emoji, got 'x'" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("more", [pytest.param(1000, marks=pytest.mark.slow), 20])
def test_memory_does_not_grow_with_the_examples(tmp_path, more):
    """Sparse files stand in for shards: their latents are zeros that take no room on the disk."""
    few, many = (measured(tmp_path / str(count), count) for count in (5, 5 * more))
    assert many - few < 20


def measured(folder, shards, rows=2048):
    """The peak memory, MB, of a process that trains some steps on so many shards."""
    folder.mkdir()
    labels = torch.arange(rows) % 2
    entry = write_shard(folder / "0.safetensors", torch.zeros(rows, 4, 16, 16).half(), labels, torch.arange(rows))
    for number in range(1, shards):
        (folder / f"{number}.safetensors").symlink_to("0.safetensors")
    entries = [entry | {"file": f"{number}.safetensors"} for number in range(shards)]
    write_index(folder, NAMES, as_head("single"), "", [4, 16, 16], entries, occurrences=[shards * rows // 2] * 2)
    code = f"""
import itertools, torch
import guidance_core as gc
from guidance_core.data.stream import ShardStream
torch.set_num_threads(1)
stream = ShardStream.open({str(folder)!r}, buffer=8192)
run = gc.train_classifier(stream, label_names={NAMES!r}, steps=3, batch=8, hold_out=0.1)
list(itertools.islice(run, 3))
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout)
