"""Encode, train and evaluate, in one process, in two agents as on two machines, and killed: one result."""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch
from test_commands import ROOT
from test_locked import another

from devtools.pipeline import CLASSES, Launch, Pipeline, make_tar
from devtools.small_disk import NoDisk, small_disk
from guidance_core.__main__ import main
from guidance_core.data.shards import ShardSource
from guidance_core.distributed import Process, launched, this_process
from guidance_core.locked import held

CORE = ("-m", "guidance_core")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the processes that are started have: threads share out sums, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    return Pipeline(tmp_path / "some.tar", folder, shard_images=30, steps=20, batch=9, examples=60, hold_out=0)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The folder with the tar, and what one process makes of it."""
    folder = tmp_path_factory.mktemp("pipeline")
    make_tar(folder / "some.tar", 200)
    pipeline = small(folder, "one")
    for command in (pipeline.encode(), pipeline.train(), pipeline.evaluate()):
        assert main([str(word) for word in without_workers(command)]) == 0
    return pipeline


def without_workers(command):
    """In this process, whose threads a fork would not take along."""
    return [0 if before == "--workers" else word for before, word in zip([None, *command], command, strict=False)]


def same(pipeline, one):
    """The same shards, loss curve, classifier and judgement, to the last bit."""
    assert pipeline.content() == one.content()
    assert pipeline.curve() == one.curve()
    assert pipeline.classifier.read_bytes() == one.classifier.read_bytes()
    assert pipeline.judgement() == one.judgement()


def test_one_process_makes_a_classifier(one):
    source = ShardSource.open(one.shards)
    assert source.label_names == CLASSES and len(source) == 199
    assert "some.tar/0000007,cannot be read" in (one.shards / "report.csv").read_text().replace('"', "")
    assert [step for step, _ in one.curve()] == list(range(1, 21))
    assert len(one.judgement()) == 5


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun's agents need more than Windows has")
def test_two_agents_that_share_a_folder_make_the_same(one):
    pipeline = small(one.tar.parent, "two")
    words = [pipeline.encode(), pipeline.train(), pipeline.evaluate()]
    (pipeline.folder / "words.json").write_text(json.dumps(words, default=str))
    Launch(agents=2).run(__file__, pipeline.folder / "words.json")
    same(pipeline, one)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_training_that_was_killed_goes_on_to_the_same(one):
    pipeline = small(one.tar.parent, "killed")
    pipeline.shards.symlink_to(one.shards)
    command = [*CORE, *pipeline.train()]
    assert Launch().kill(lambda: pipeline.log.is_file() and len(pipeline.curve()) > 4, *command)
    assert not pipeline.classifier.exists()
    Launch().run(*command)
    assert pipeline.curve() == one.curve()
    assert pipeline.classifier.read_bytes() == one.classifier.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_of_two_trainings_of_one_file_the_second_is_refused_and_a_killed_one_hinders_none(one, capsys):
    pipeline = replace(small(one.tar.parent, "twice"), steps=2000)
    pipeline.shards.symlink_to(one.shards)
    checkpoint = pipeline.classifier.with_name("classifier.safetensors.checkpoint")
    (first,) = Launch().start(*CORE, *pipeline.train())
    try:
        while first.poll() is None and not (pipeline.log.is_file() and len(pipeline.curve()) > 3):
            time.sleep(0.01)
        again = [str(word) for word in without_workers(pipeline.train())]
        assert main(again) == 2
        assert f"Another launch is at work on '{pipeline.classifier}'" in capsys.readouterr().err
    finally:
        first.kill()
        first.communicate()
    assert [step for step, _ in pipeline.curve()] == list(range(1, 1 + len(pipeline.curve())))
    with held([pipeline.classifier, pipeline.log, checkpoint], Process()) as note:
        assert not note
    assert not list(pipeline.folder.glob(".*.lock"))


def test_what_another_launch_writes_is_not_evaluated(one, tmp_path, capsys):
    pipeline = small(tmp_path, "held")
    pipeline.shards.symlink_to(one.shards)
    pipeline.classifier.symlink_to(one.classifier)
    page = pipeline.folder / "page.png"
    words = [*map(str, pipeline.evaluate()), "--out", str(page)]
    for file in (pipeline.judged, page):
        with another(file.with_name(f".{file.name}.lock")):
            assert main(words) == 2
        assert f"Another launch is at work on '{file}'" in capsys.readouterr().err
    assert not pipeline.judged.exists() and not page.exists()
    assert main(words) == 0
    assert pipeline.judged.exists() and page.exists()
    assert not list(pipeline.folder.glob(".*.lock"))


@pytest.mark.parametrize("fault", ["torn", "gone"])
def test_a_shard_that_is_torn_or_gone_is_named_and_what_was_written_stays(one, fault, capsys):
    pipeline = small(one.tar.parent, fault)
    copytree(one.shards, pipeline.shards)
    pipeline.classifier.write_bytes(one.classifier.read_bytes())
    shard = sorted(pipeline.shards.glob("*.safetensors"))[2]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100]) if fault == "torn" else shard.unlink()
    before = pipeline.content()
    for command in (pipeline.train(), pipeline.evaluate()):
        assert main([str(word) for word in without_workers(command)]) == 2
        assert shard.name in capsys.readouterr().err
    assert pipeline.content() == before and pipeline.classifier.read_bytes() == one.classifier.read_bytes()
    shard.write_bytes(whole)
    for command in (pipeline.train(), pipeline.evaluate()):
        assert main([str(word) for word in without_workers(command)]) == 0
    same(pipeline, one)


def test_on_a_full_disk_train_and_evaluate_stop_in_a_sentence_and_with_room_they_go_on(one, tmp_path, capsys):
    try:
        with small_disk(tmp_path / "disk", 2**24) as disk:
            pipeline = replace(small(tmp_path, "unused"), folder=disk.path)
            pipeline.shards.symlink_to(one.shards)
            for command, file in ((pipeline.train(), pipeline.classifier), (pipeline.evaluate(), pipeline.judged)):
                disk.fill()
                assert main([str(word) for word in without_workers(command)]) == 2
                assert "the disk is full" in capsys.readouterr().err
                assert not file.exists()
                disk.empty()
                assert main([str(word) for word in without_workers(command)]) == 0
            same(pipeline, one)
    except NoDisk as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_every_command_may_be_killed(one):
    pipeline, launch = small(one.tar.parent, "all"), Launch(processes=2)
    moments = (
        lambda: len(list((pipeline.shards / "encoding").glob("unit-*"))) > 2,
        lambda: pipeline.log.is_file() and len(pipeline.curve()) > 7,
        lambda: True,
    )
    commands = (pipeline.encode(), pipeline.train(), pipeline.evaluate())
    for moment, command in zip(moments, commands, strict=True):
        launch.kill(moment, *CORE, *command)
        launch.run(*CORE, *command)
    same(pipeline, one)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.parametrize(("machines", "rank"), [(1, 0), (1, 1), (2, 1)])
def test_torchrun_restarts_a_process_that_was_killed(one, machines, rank):
    """--max-restarts: one process of two is lost in each command, and nobody launches it again."""
    pipeline = small(one.tar.parent, f"restarted-{machines}-{rank}")
    launch = Launch(processes=2 // machines, agents=machines, restarts=2)
    launch.lose(rank, lambda: len(list((pipeline.shards / "encoding").glob("unit-*"))) > 2, *CORE, *pipeline.encode())
    launch.lose(rank, lambda: pipeline.log.is_file() and len(pipeline.curve()) > 7, *CORE, *pipeline.train())
    launch.lose(rank, lambda: True, *CORE, *pipeline.evaluate())
    same(pipeline, one)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_torchrun_restarts_a_process_that_was_killed_while_it_samples(tmp_path):
    words = ["sample", "--cfg", 2, "--steps", 2, "--count", 1500]
    launch, out = Launch(processes=2, restarts=1), tmp_path / "restarted"
    launch.lose(1, lambda: len(list(out.glob("samples-*"))) > 1, *CORE, *words, "--out", out)
    assert main([*map(str, words), "--out", str(tmp_path / "whole")]) == 0
    files = sorted((tmp_path / "whole").glob("samples-*"))
    assert len(files) == 6 and [file.name for file in files] == sorted(file.name for file in out.glob("samples-*"))
    assert all(file.read_bytes() == (out / file.name).read_bytes() for file in files)


def work(file):
    """What each process of the agents does: three commands in one group, which is joined once."""
    with launched(patient=True):
        for command in json.loads(Path(file).read_text()):
            assert main([str(word) for word in command]) == 0
            this_process().barrier()


if __name__ == "__main__":
    assert os.getcwd() == str(ROOT)
    work(sys.argv[1])
