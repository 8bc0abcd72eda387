"""Checkpoints: a run that was stopped goes on bit for bit, and never from the file of another run."""

import dataclasses
import errno
import itertools
import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

import guidance_core as gc
from devtools.small_disk import NoDisk, small_disk
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


def test_a_step_that_nobody_has_taken_note_of_is_made_again(file):
    """Killed between a step and the row of a log that it is to have, a run does not go on after it."""
    run = training(file, checkpoint_every=1)
    list(itertools.islice(run, 2))
    left = file.read_bytes()
    run.close()
    file.write_bytes(left)
    assert next(training(file)).step == 2


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


def full_disk(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_stops_no_training(file, monkeypatch):
    whole = list(training(checkpoint_every=2))
    monkeypatch.setattr("os.fsync", full_disk)
    steps = list(training(file, checkpoint_every=2))
    for one, other in zip(whole, steps, strict=True):
        same(dataclasses.replace(one, notes=other.notes), other)
    (note,) = [note for step in steps for note in step.notes]  # said once
    assert steps[2].notes == (note,)
    assert note.startswith("Training goes on, but cannot be resumed from here: '")
    assert "run.safetensors' could not be written: the disk is full." in note
    assert list(file.parent.iterdir()) == []


def test_a_disk_that_was_full_keeps_the_next_checkpoint(file, monkeypatch):
    run = training(file, checkpoint_every=2)
    with monkeypatch.context() as while_full:
        while_full.setattr("os.fsync", full_disk)
        assert len([note for step in itertools.islice(run, 3) for note in step.notes]) == 1
    assert next(run).notes == () and not file.exists()
    assert next(run).notes == () and file.exists()
    run.close()
    assert next(training(file)).step == 6


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_on_a_small_disk_training_goes_on_and_the_old_checkpoint_stays(tmp_path, fault):
    try:
        with small_disk(tmp_path / "disk", 12 * 2**20) as disk:
            file = disk.path / "run.safetensors"
            stopped(file, 4)
            old = file.read_bytes()
            disk.fill() if fault == "full" else disk.read_only()
            run = training(file, checkpoint_every=2)
            steps = list(itertools.islice(run, 4))
            with pytest.raises(gc.GuidanceError, match=f"could not be written: the disk is {fault}"):
                next(run) and run.close()
            (note,) = [note for step in steps for note in step.notes]
            assert [step.step for step in steps] == [5, 6, 7, 8] and f"the disk is {fault}" in note
            assert file.read_bytes() == old and not list(disk.path.glob("*.part"))
    except NoDisk as error:
        pytest.skip(str(error))


def test_a_run_that_is_closed_says_that_it_cannot_be_kept(file, monkeypatch):
    """What it has learned so far is there all the same, and an older checkpoint is as it was."""
    stopped(file, 2)
    old = file.read_bytes()
    run = training(file)
    step = next(run)
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(gc.GuidanceError, match="could not be written: the disk is full"):
        run.close()
    assert step.best()(data()[0], 1.0).shape == (16, 2)
    assert file.read_bytes() == old


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


def progress(**changes):
    """A change of what a checkpoint says of its progress."""

    def change(file):
        metadata, _ = files.read_tensors(file, "training checkpoint", FORMAT)
        rewritten(file, progress=json.dumps(json.loads(metadata["progress"]) | changes))

    return change


def weights(name, tensor):
    """A change of one tensor of a checkpoint; None leaves it out."""

    def change(file):
        rewritten(file, tensors=lambda old: {n: t for n, t in (old | {name: tensor}).items() if t is not None})

    return change


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def emptied(file):
    file.write_bytes(b"")


def zeroed(file):
    """As a file system may leave what was not on the disk when the power went."""
    file.write_bytes(bytes(file.stat().st_size))


STEM = "network/stem.weight"
DAMAGES = {
    "cut": cut,
    "emptied": emptied,
    "zeroed": zeroed,
    "progress is no JSON": lambda file: rewritten(file, progress="{"),
    "progress is empty": lambda file: rewritten(file, progress="{}"),
    "progress is nested": lambda file: rewritten(file, progress="[" * 100_000),
    "run is no table": lambda file: rewritten(file, run="7"),
    "step 11 of 9": progress(step=11),
    "step 0": progress(step=0),
    "step is text": progress(step="5"),
    "step is half": progress(step=2.5),
    "waited is text": progress(waited="x"),
    "loss is text": progress(loss="low"),
    "loss is nothing": progress(loss=None),
    "best is a number": progress(best=3),
    "best is another": progress(best={"step": 2}),
    "best is text": progress(best={"step": 2, "loss": "low", "accuracy": 1}),
    "best without weights": progress(best={}),
    "validation is a number": progress(validation=3),
    "validation is another": progress(validation={"bins": []}),
    "validation is text": progress(validation={"bins": [], "loss": "low", "accuracy": 1, "best": True}),
    "scaler is text": progress(scaler="x"),
    "scaler is another": progress(scaler={"scale": 1}),
    "no generator": weights("generator/state", None),
    "another generator": weights("generator/state", torch.zeros(3, dtype=torch.uint8)),
    "a generator of numbers": weights("generator/state", torch.zeros(5056)),
    "no stem": weights(STEM, None),
    "another stem": weights(STEM, torch.zeros(3)),
    "a stem of whole numbers": weights(STEM, torch.zeros(32, 1, 3, 3, dtype=torch.long)),
    "more weights": weights("average/more", torch.zeros(3)),
    "another best": weights("best/stem.weight", torch.zeros(3)),
    "no moment": weights("optimizer/0.exp_avg", None),
    "another moment": weights("optimizer/0.exp_avg", torch.zeros(3)),
    "a moment of another": weights("optimizer/999.exp_avg", torch.zeros(3)),
    "a moment that is none": weights("optimizer/x", torch.zeros(3)),
    "a step of many": weights("optimizer/0.step", torch.zeros(3)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_set_aside_and_training_begins_anew(damage, file):
    stopped(file, 4)
    damage(file)
    left = file.read_bytes()
    run = training(file)
    first = next(run)
    run.close()
    assert (first.step, first.loss) == (1, next(training()).loss)
    (note,) = first.notes
    assert note.startswith("The checkpoint 'run.safetensors' is damaged (")
    assert note.endswith("): it was set aside as 'run (damaged).safetensors', and training begins anew.")
    assert file.with_name("run (damaged).safetensors").read_bytes() == left
    assert next(training(file)).step == 2


def test_damaged_files_are_numbered(file):
    for expected in ({"run (damaged).safetensors"}, {"run (damaged).safetensors", "run (damaged 2).safetensors"}):
        stopped(file, 2)
        cut(file)
        whole = list(training(file))
        assert whole[0].step == 1 and [bool(step.notes) for step in whole] == [True] + [False] * 8
        assert {each.name for each in file.parent.iterdir()} == expected | {file.name}


def test_a_damaged_file_that_cannot_be_renamed_stays(file, monkeypatch):
    stopped(file, 2)
    cut(file)
    left = file.read_bytes()

    def read_only(old, new):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("os.replace", read_only)
    monkeypatch.setattr("os.fsync", full_disk)
    steps = list(training(file))
    assert "it stays where it is (Read-only file system), and training begins anew" in steps[0].notes[0]
    assert steps[-1].classifier is not None and file.read_bytes() == left


def test_a_checkpoint_of_another_version_is_refused_and_left(file):
    stopped(file, 2)
    rewritten(file, version="2")
    left = file.read_bytes()
    with pytest.raises(gc.GuidanceError, match="format version 2, this Guidance Kit reads version 1"):
        training(file)
    assert file.read_bytes() == left and list(file.parent.iterdir()) == [file]


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file was executed",))


def torch_zip(file):
    torch.save({"x": torch.zeros(3)}, file)


@pytest.mark.parametrize("protocol", [2, 4, 5, "zip"])
def test_files_of_others_are_refused_and_left(protocol, file):
    torch_zip(file) if protocol == "zip" else file.write_bytes(pickle.dumps(Bomb(), protocol))
    left = file.read_bytes()
    with pytest.raises(gc.GuidanceError, match="not a whole safetensors file"):
        training(file)
    assert file.read_bytes() == left and list(file.parent.iterdir()) == [file]


def test_a_classifier_is_no_checkpoint(file):
    list(training())[-1].classifier.save(file)
    left = file.read_bytes()
    with pytest.raises(gc.GuidanceError, match="not a training checkpoint"):
        training(file)
    assert file.read_bytes() == left and list(file.parent.iterdir()) == [file]


def test_a_folder_is_no_checkpoint(file):
    file.mkdir()
    with pytest.raises(gc.GuidanceError, match="run.safetensors' is a folder: name the training checkpoint file"):
        training(file)


def test_a_checkpoint_holds_text_and_tensors_only(file):
    stopped(file, 5)
    metadata, tensors = files.read_tensors(file, "training checkpoint", FORMAT)
    assert json.loads(metadata["progress"])["step"] == 5
    assert {name.partition("/")[0] for name in tensors} == {"network", "average", "best", "optimizer", "generator"}
