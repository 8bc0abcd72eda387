"""Training in two processes: the same steps as in one, one writer, and the same answers in every process."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import guidance_core as gc
from guidance_core.distributed import Process, launched
from guidance_core.train import validation

ROOT = Path(gc.__file__).parent.parent
NAMES = ["left", "right", "both"]
SETTINGS = {
    "steps": 8,
    "batch": 7,  # does not divide by two
    "learning_rate": 5e-3,
    "hold_out": 0.3,
    "evaluate_every": 2,
    "augment": "flip, crop",
    "log_snr_range": (-6.0, 6.0),
}


def data():
    latents = torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return latents, torch.arange(24) % 3


def training(file=None, **settings):
    return gc.train_classifier(*data(), NAMES, checkpoint=file, **SETTINGS | settings)


def figures(steps):
    """What a run says of itself, as plain numbers."""
    return [[s.step, s.loss, s.accuracy, *([s.validation.loss] if s.validation else [])] for s in steps]


def work(folder):
    """What each process does; the test reads what it wrote."""
    torch.set_num_threads(1)
    validation.DRAWS = (12, 24)
    with launched() as device:
        rank = torch.distributed.get_rank()
        answers = {"device": str(device), "whole": figures(training()), "pieces": figures(training(accumulate=4))}
        run = training(folder / "half.safetensors")
        answers["half"] = figures(itertools.islice(run, 5))
        run.close()
        torn = folder / "torn.safetensors"  # damaged by the test, one file for both
        torn_steps = list(itertools.islice(training(torn), 2))
        answers["torn"] = [figures(torn_steps), [note for step in torn_steps for note in step.notes]]
        # `own` is a folder that the processes do not share: one finds a checkpoint and the other does not
        own = folder / str(rank)
        own.mkdir()
        list(itertools.islice(training(own / "own.safetensors"), 2))
        for name, attempt in {
            "small": lambda: training(batch=1),
            "apart": lambda: list(training(own / "own.safetensors")),
        }.items():
            try:
                attempt()
            except gc.GuidanceError as error:
                answers[name] = str(error)
        answers["files"] = sorted(file.name for file in own.iterdir())
        (folder / f"{rank}.json").write_text(json.dumps(answers))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The answers of two processes, and the folder that they left."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "torn.safetensors").write_bytes(b"torn")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    command += ["--rdzv-endpoint", "localhost:0", __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture
def short_validations(monkeypatch):
    monkeypatch.setattr(validation, "DRAWS", (12, 24))


def test_two_processes_make_the_steps_of_one(two, short_validations):
    alone = figures(training())
    for answers in two[1]:
        assert answers["device"] == "cpu"
        for one, other in zip(alone, answers["whole"], strict=True):
            assert one == pytest.approx(other, abs=1e-4)
    assert two[1][0]["whole"] == two[1][1]["whole"]


@pytest.fixture
def one_thread():
    """Threads share out sums, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_processes_make_the_bits_of_one_where_a_batch_is_computed_in_pieces(two, short_validations, one_thread):
    alone = figures(training(accumulate=4))
    assert [answers["pieces"] for answers in two[1]] == [alone, alone]
    assert alone != figures(training()) and alone == figures(training(accumulate=4))


def test_a_run_of_two_goes_on_in_one(two, short_validations):
    folder, (answers, _) = two
    rest = figures(training(folder / "half.safetensors"))
    for one, other in zip(answers["whole"], answers["half"] + rest, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_only_the_first_process_writes(two):
    assert two[1][0]["files"] == ["own.safetensors"]
    assert two[1][1]["files"] == []


def test_processes_that_cannot_train_together_say_so(two):
    for answers in two[1]:
        assert "2 processes cannot share a batch of 1" in answers["small"]
        assert "different checkpoints: the file must be on a disk that all of them see" in answers["apart"]


def test_processes_begin_anew_together_where_the_checkpoint_is_damaged(two):
    folder, answers = two
    assert [answer["torn"][0] for answer in answers] == [answer["whole"][:2] for answer in answers]
    assert "was set aside as 'torn (damaged).safetensors'" in answers[0]["torn"][1][0]
    assert (folder / "torn (damaged).safetensors").read_bytes() == b"torn"
    assert [file.name for file in folder.glob("torn (*")] == ["torn (damaged).safetensors"]


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 64])
def test_parts_are_even_parts_of_the_whole(world, count):
    parts = [list(range(count))[Process(rank, world).part_of(count)] for rank in range(world)]
    assert list(itertools.chain(*parts)) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("pieces", [4, 7, 1024])
@pytest.mark.parametrize("count", [0, 1, 5, 64])
def test_a_batch_is_cut_into_the_same_pieces_for_any_number_of_processes(pieces, count):
    def cut(world):
        found = []
        for process in (Process(rank, world, pieces) for rank in range(world)):
            own = range(count)[process.part_of(count)]
            found += [list(own[piece]) for piece in process.pieces_of(count)]
        return [piece for piece in found if piece]

    assert cut(1) == cut(2) == cut(3) == cut(4)
    assert list(itertools.chain(*cut(1))) == list(range(count))
    assert len(cut(1)) == min(pieces, count)


def test_outside_of_torchrun_nothing_is_joined():
    with launched() as device:
        assert device is None
        assert not torch.distributed.is_initialized()


def test_processes_of_several_machines_that_would_meet_in_the_store_of_dead_ones_are_refused(monkeypatch):
    """torchrun keeps one store over its restarts; with one machine each attempt has a part of it."""
    told = {"LOCAL_RANK": "0", "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_MAX_RESTARTS": "3"}
    for name, value in (told | {"GROUP_WORLD_SIZE": "2"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(gc.GuidanceError, match="set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun"), launched():
        pass
    assert not torch.distributed.is_initialized()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
