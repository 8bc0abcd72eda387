"""Encode, train and evaluate, in one process, in two agents as on two machines, and killed: one result."""

import json
import os
import sys
from pathlib import Path

import pytest
from test_commands import ROOT

from devtools.pipeline import CLASSES, Launch, Pipeline, furthest, make_tar
from guidance_core.__main__ import main
from guidance_core.data.shards import ShardSource
from guidance_core.distributed import launched, this_process


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
    """The same shards, loss curve and judgement."""
    assert pipeline.content() == one.content()
    assert furthest(pipeline.curve(), one.curve()) < 1e-4
    assert furthest(pipeline.judgement(), one.judgement()) < 1e-3


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
    command = ["-m", "guidance_core", *pipeline.train()]
    assert Launch().kill(lambda: pipeline.log.is_file() and len(pipeline.curve()) > 4, *command)
    assert not pipeline.classifier.exists()
    Launch().run(*command)
    assert pipeline.curve() == one.curve()
    assert pipeline.classifier.read_bytes() == one.classifier.read_bytes()


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
        launch.kill(moment, "-m", "guidance_core", *command)
        launch.run("-m", "guidance_core", *command)
    same(pipeline, one)


def work(file):
    """What each process of the agents does: three commands in one group, which is joined once."""
    with launched(patient=True):
        for command in json.loads(Path(file).read_text()):
            assert main([str(word) for word in command]) == 0
            this_process().barrier()


if __name__ == "__main__":
    assert os.getcwd() == str(ROOT)
    work(sys.argv[1])
