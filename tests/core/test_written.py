"""What is written is whole or as it was before, leaves no unfinished file behind, and fails in a sentence."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from benchmarks import GROUPS, results
from devtools import make_definitions, make_screenshots
from devtools.small_disk import NoDisk, small_disk
from guidance_core import writing
from guidance_core.data.shard_writer import write_shards
from guidance_core.demo.train import save
from guidance_core.drawing.plot import write_png
from guidance_core.errors import GuidanceError
from guidance_core.files import DTYPES, read_header, read_tensors, write_tensors
from guidance_core.train.checkpoint import Saved, write_checkpoint

WRITERS = {
    "results": lambda file, text: results.keep(GROUPS[0], f"## {text} ({GROUPS[0]})\n", file),
    "json": lambda file, text: make_definitions.write_json(file, {"content": text}),
    "screenshot": lambda file, text: make_screenshots._write(file, text.encode()),
    "picture": lambda file, text: write_png(np.full((8, 8, 3), len(text), dtype=np.uint8), file),
    "tensors": lambda file, text: write_tensors(file, {"x": torch.zeros(5)}, {"text": text}),
    "checkpoint": lambda file, text: write_checkpoint(file, Saved({"net": {"x": torch.zeros(5)}}, {"text": text}), {}),
    "demo": lambda file, text: save(torch.nn.Linear(1, 1), file, torch.float16, {"text": text}),
}
ENDINGS = {"picture": ".png"}


@pytest.fixture(params=WRITERS)
def writer(request, monkeypatch, tmp_path):
    """(write(file, text), a file it may write)."""
    monkeypatch.setattr(make_screenshots, "ROOT", tmp_path)  # below which it names what it has written
    return WRITERS[request.param], f"file{ENDINGS.get(request.param, '.md')}"


@pytest.fixture
def disk(tmp_path):
    try:
        with small_disk(tmp_path / "disk", 2**16) as mounted:
            yield mounted
    except NoDisk as error:
        pytest.skip(str(error))


def test_a_file_is_written_and_again(writer, tmp_path):
    write, name = writer
    contents = set()
    for text in ("first", "second one"):
        write(tmp_path / name, text)
        contents.add((tmp_path / name).read_bytes())
        assert [each.name for each in tmp_path.iterdir()] == [name]
    assert len(contents) == 2


@pytest.mark.parametrize("step", ["os.fsync", "os.replace"])
def test_a_write_that_fails_leaves_the_file_as_it_was(writer, step, tmp_path, monkeypatch):
    write, name = writer
    file = tmp_path / name
    write(file, "first")
    before = file.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(step, full)
    with pytest.raises(GuidanceError) as refused:
        write(file, "second one")
    assert str(refused.value) == (
        f"'{file}' could not be written: the disk is full. Free some space, or write to another place."
    )
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def test_what_stops_a_write_passes_and_leaves_the_file_as_it_was(tmp_path):
    """Such as Cancel, which is no error."""
    file = tmp_path / "file"
    writing.write_whole(file, b"first")
    with pytest.raises(KeyboardInterrupt), writing.written_whole(file) as stream:
        stream.write(b"sec")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"first" and list(tmp_path.iterdir()) == [file]


def test_on_a_full_disk(writer, disk):
    write, name = writer
    file = disk.path / name
    write(file, "first")
    before = file.read_bytes()
    disk.fill()
    with pytest.raises(GuidanceError, match="could not be written: the disk is full"):
        write(file, "second one")
    assert file.read_bytes() == before and {each.name for each in disk.path.iterdir()} == {name, "filler"}
    disk.empty()
    write(file, "second one")
    assert file.read_bytes() != before


def test_on_a_disk_that_fills_up_in_the_middle(disk):
    file = disk.path / "file.safetensors"
    write_tensors(file, {"x": torch.zeros(10)}, {})
    with pytest.raises(GuidanceError, match="the disk is full"):
        write_tensors(file, {"a": torch.zeros(10), "x": torch.zeros(2**16)}, {})
    assert read_tensors(file, "file", None)[1].keys() == {"x"} and list(disk.path.iterdir()) == [file]


def test_on_a_read_only_disk(writer, disk):
    write, name = writer
    write(disk.path / name, "first")
    disk.read_only()
    with pytest.raises(GuidanceError, match="could not be written: the disk is read-only. Write to another place"):
        write(disk.path / name, "second one")


def test_shards_on_a_full_disk(disk):
    disk.fill()
    with pytest.raises(GuidanceError, match="shard-00000.safetensors' could not be written: the disk is full"):
        list(write_shards([(torch.zeros(1, 2, 2), 0)], disk.path / "shards", ["a"], dtype=torch.float32))
    assert not any(each.is_file() for each in (disk.path / "shards").rglob("*"))


def test_names_that_no_file_can_have(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name, why in {
        "folder": "a folder has this name. Choose another name",
        "file/inner": "a file lies where its folder should be. Write to another place",
        "file/a/b": "a file lies where its folder should be. Write to another place",
        "é" * 200: "its name is too long. Choose a shorter one",
        "é" * 200 + "/inner": "its name is too long. Choose a shorter one",
    }.items():
        with pytest.raises(GuidanceError) as refused:
            writing.write_whole(tmp_path / name, b"")
        assert str(refused.value) == f"'{tmp_path / name}' could not be written: {why}."
    assert {each.name for each in tmp_path.rglob("*")} == {"folder", "file"}


def test_the_longest_name_can_be_written(tmp_path):
    writing.write_whole(tmp_path / ("é" * 127), b"whole")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"whole"]


def test_writers_of_one_process_number_do_not_meet(tmp_path):
    """Two containers that share a folder may have the same process numbers."""
    file = tmp_path / "file"
    with writing.written_whole(file) as outer:
        outer.write(b"outer")
        with writing.written_whole(file) as inner:
            inner.write(b"inner")
        assert file.read_bytes() == b"inner"
    assert file.read_bytes() == b"outer" and list(tmp_path.iterdir()) == [file]


def test_the_next_write_deletes_what_a_killed_process_left_a_day_ago(tmp_path):
    names = {
        ".guidance-kit-" + 16 * "0" + ".part": True,
        ".guidance-kit-" + 16 * "1" + ".part": False,  # younger than a day
        ".guidance-kit-" + 15 * "2" + ".part": False,  # no name of ours
        "guidance-kit-" + 16 * "3" + ".part": False,
        "film.mp4.part": False,
        "other.safetensors.4242.part": False,
    }
    day = 24 * 3600
    for name in names:
        (tmp_path / name).write_bytes(b"half")
        age = day - 100 if "111" in name else day + 100
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    (tmp_path / (".guidance-kit-" + 16 * "4" + ".part")).mkdir()
    os.utime(tmp_path / (".guidance-kit-" + 16 * "4" + ".part"), (0, 0))
    writing.write_whole(tmp_path / "file", b"whole")
    left = {each.name for each in tmp_path.iterdir()} - {"file", ".guidance-kit-" + 16 * "4" + ".part"}
    assert left == {name for name, deleted in names.items() if not deleted}


KILLED = """
import os, signal, sys
from guidance_core import writing
with writing.written_whole(sys.argv[1]) as stream:
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_the_old_file_and_one_that_is_seen_to_be_unfinished(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"first")
    subprocess.run([sys.executable, "-c", KILLED, str(file)], cwd=Path(__file__).parents[2], check=False)
    assert file.read_bytes() == b"first"
    (part,) = set(tmp_path.iterdir()) - {file}
    assert writing.PART.fullmatch(part.name) and part.read_bytes() == b"half"


def test_others_may_read_what_is_written(writer, tmp_path):
    write, name = writer
    (tmp_path / "plain").touch()
    write(tmp_path / name, "first")
    assert (tmp_path / name).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_tensors_are_written_as_safetensors_writes_them(tmp_path):
    draw = torch.Generator().manual_seed(0)
    tensors = {f"b/{DTYPES[dtype]}": torch.randint(0, 2, (3, 2), generator=draw).to(dtype) for dtype in DTYPES}
    tensors |= {f"a/{DTYPES[dtype]}": torch.ones(()).to(dtype) for dtype in DTYPES}
    tensors |= {"empty": torch.zeros(0, 3), "turned": torch.arange(6.0).reshape(2, 3).T, "ü \"'": torch.ones(1)}
    tensors["shared"] = tensors["turned"][0]
    file, metadata = tmp_path / "file.safetensors", {"text": 'é\n"', "empty": ""}
    write_tensors(file, tensors, metadata)
    theirs = safetensors.torch.save({name: each.clone().contiguous() for name, each in tensors.items()}, metadata)
    length = int.from_bytes(theirs[:8], "little")
    ours = file.read_bytes()
    assert int.from_bytes(ours[:8], "little") % 8 == 0
    assert ours[8 + int.from_bytes(ours[:8], "little") :] == theirs[8 + length :]
    with safe_open(file, framework="pt") as handle:
        assert handle.metadata() == metadata
    for read in (safetensors.torch.load_file(file), read_tensors(file, "file", None)[1]):
        assert read.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor)
    for name, declared in read_header(file, "file", None).tensors.items():
        expected = tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        assert ours[declared.offset : declared.offset + len(expected)] == expected


def test_only_the_tensors_that_are_asked_for_are_read(tmp_path):
    write_tensors(tmp_path / "file", {"a": torch.zeros(1), "b": torch.ones(1)}, {})
    assert read_tensors(tmp_path / "file", "file", None, only=("b", "c"))[1] == {"b": torch.ones(1)}


def test_a_tensor_that_no_file_can_hold(tmp_path):
    with pytest.raises(GuidanceError, match="'file' cannot hold 'x': it is torch.complex64"):
        write_tensors(tmp_path / "file", {"x": torch.zeros(1, dtype=torch.complex64)}, {})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_made(tmp_path):
    write_tensors(tmp_path / "new" / "inner" / "file", {}, {})
    assert [each.name for each in tmp_path.rglob("*")] == ["new", "inner", "file"]


def test_a_sentence_quotes_a_path_in_part(tmp_path):
    with pytest.raises(GuidanceError) as refused:
        writing.write_whole(tmp_path / ("x" * 100000), b"")
    assert len(str(refused.value)) < 700 and str(refused.value).startswith(f"'{tmp_path}")
