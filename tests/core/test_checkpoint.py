"""Checkpoints: a run that was stopped goes on bit for bit, and never from the file of another run."""

import errno
import itertools
import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

import guidance_core as gc
from guidance_core import files
from guidance_core.train import validation
from guidance_core.train.checkpoint import FORMAT

NAMES = ["left", "right"]
SETTINGS = {"steps": 9, "batch": 4, "hold_out": 0.3, "evaluate_every": 2, "patience": 50, "augment": "flip, shift"}


@pytest.fixture(autouse=True)
def short_validations(monkeypatch):
    monkeypatch.setattr(validation, "DRAWS", (12, 24))


def data(count=16):
    latents = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return latents, torch.arange(count) % 2


def training(file=None, **settings):
    return gc.train_classifier(*data(), NAMES, checkpoint=file, **SETTINGS | settings)


def stopped(file, after, **settings):
    """The steps of a run that is closed after some of them."""
    run = training(file, **settings)
    done = list(itertools.islice(run, after))
    run.close()
    return done


def same(one, other):
    """The same step, and the same weights where there are some."""
    assert one == other or (one.classifier and one.step == other.step)
    assert (one.loss, one.accuracy, one.validation) == (other.loss, other.accuracy, other.validation)
    if one.classifier:
        weights, others = one.classifier.network.state_dict(), other.classifier.network.state_dict()
        assert all(torch.equal(weights[name], others[name]) for name in weights)
        assert one.classifier.record == other.classifier.record


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.safetensors"


@pytest.mark.parametrize("after", [1, 4, 5, 8])
@pytest.mark.parametrize("options", [{}, {"hold_out": 0.0, "patience": 0, "augment": None}], ids=["all", "plain"])
def test_a_run_that_was_closed_goes_on_bit_for_bit(after, options, file):
    whole = list(training(**options))
    parts = stopped(file, after, checkpoint_every=100, **options) + list(training(file, **options))
    assert [step.step for step in parts] == [*range(1, 10)]
    for one, other in zip(whole, parts, strict=True):
        same(one, other)


def test_it_may_be_stopped_many_times(file):
    parts = []
    for _ in range(5):
        parts += stopped(file, 2)
    for one, other in zip(training(), parts, strict=True):
        same(one, other)


def test_a_run_that_broke_off_goes_on_from_its_last_checkpoint(file):
    run = training(file, checkpoint_every=3)
    list(itertools.islice(run, 5))
    left = file.read_bytes()  # as after a loss of power in the sixth step
    run.close()
    file.write_bytes(left)
    again = list(training(file))
    assert [step.step for step in again] == [4, 5, 6, 7, 8, 9]
    for one, other in zip(list(training())[3:], again, strict=True):
        same(one, other)


def test_the_pace_of_checkpoints_changes_nothing(file):
    for one, other in zip(training(), training(file, checkpoint_every=1), strict=True):
        assert (one.loss, one.accuracy, one.validation) == (other.loss, other.accuracy, other.validation)


def test_a_finished_run_brings_its_last_step_again(file):
    last = list(training(file))[-1]
    (again,) = training(file)
    same(last, again)


def test_a_run_that_stopped_early_stays_stopped(file):
    options = {"patience": 1, "learning_rate": 1e-7, "weight_decay": 0.0, "steps": 200, "ema": 0.0}
    steps = list(training(file, **options))
    assert 2 <= steps[-1].step < 200
    (again,) = training(file, **options)
    same(steps[-1], again)


def test_it_goes_on_in_inference_mode(file):
    stopped(file, 4)
    with torch.inference_mode():
        last = list(training(file))[-1]
    same(list(training())[-1], last)


def test_a_file_that_cannot_be_written_leaves_the_old_one(file, monkeypatch):
    stopped(file, 4)
    old = file.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(gc.GuidanceError, match="the disk is full"):
        list(training(file, checkpoint_every=1))
    assert file.read_bytes() == old
    assert list(file.parent.iterdir()) == [file]


def other_data():
    latents, labels = data()
    latents[3, 0, 1, 2] += 1e-3
    return latents, labels


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"steps": 12}, "'run.safetensors' is of another training run: steps was 9 and is 12. Make them the same"),
        ({"seed": 1, "batch": 5}, 'batch was 4 and is 5; seed was "0" and is "1"'),
        ({"augment": "flip"}, 'augment was "flip, shift" and is "flip"'),
        ({"augment": lambda x0, generator: x0}, 'is "a function"'),
        ({"log_snr_range": (-5.0, 5.0)}, r"log_snr_range was \[-10.0, 10.0\] and is \[-5.0, 5.0\]"),
        ({"size": "base"}, 'size was "small" and is "base"; network was'),
        ({"latent_space": "sd15"}, 'latent_space was "" and is "sd15"'),
        ({"label_names": ["left", "up"]}, "label_names was"),
        ({"latents": other_data()[0]}, "its latents, labels or groups are others.*delete it or choose another file"),
        ({"labels": 1 - data()[1]}, "its latents, labels or groups are others"),
    ],
)
def test_another_run_is_refused_before_any_work(change, sentence, file):
    stopped(file, 2)
    old = file.read_bytes()
    latents, labels = data()
    arguments = {"latents": latents, "labels": labels, "label_names": NAMES, "checkpoint": file} | SETTINGS | change
    with pytest.raises(gc.GuidanceError, match=sentence):
        gc.train_classifier(**arguments)
    assert file.read_bytes() == old


def rewritten(file, tensors=lambda weights: weights, **metadata):
    old, weights = files.read_tensors(file, "training checkpoint", FORMAT)
    save_file(tensors(weights), file, metadata=old | metadata)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"progress": "{"}, "damaged"),
        ({"progress": "{}"}, "damaged"),
        ({"run": "7"}, "damaged"),
        ({"version": "2"}, "format version 2, this Guidance Kit reads version 1"),
        ({"tensors": lambda w: {n: t for n, t in w.items() if n != "generator/state"}}, "damaged.*delete it"),
        ({"tensors": lambda w: {n: t for n, t in w.items() if not n.startswith("network/stem")}}, "damaged"),
        ({"tensors": lambda w: w | {"generator/state": torch.zeros(3, dtype=torch.uint8)}}, "damaged"),
    ],
)
def test_a_damaged_file_is_refused(change, sentence, file):
    stopped(file, 2)
    rewritten(file, **change)
    with pytest.raises(gc.GuidanceError, match=sentence):
        list(training(file))


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file was executed",))


def test_what_is_no_checkpoint_is_refused(file):
    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(gc.GuidanceError, match="not a whole safetensors file"):
        training(file)
    list(training())[-1].classifier.save(file)
    with pytest.raises(gc.GuidanceError, match="not a training checkpoint"):
        training(file)


def test_a_checkpoint_holds_text_and_tensors_only(file):
    stopped(file, 5)
    metadata, tensors = files.read_tensors(file, "training checkpoint", FORMAT)
    assert json.loads(metadata["progress"])["step"] == 5
    assert {name.partition("/")[0] for name in tensors} == {"network", "average", "best", "optimizer", "generator"}
