"""What development writes is whole or as it was before, and leaves no unfinished file behind."""

import pathlib

import pytest

from benchmarks import GROUPS, results
from devtools import make_definitions, make_screenshots

WRITERS = {
    "results": lambda file, text: results.keep(GROUPS[0], f"## {text} ({GROUPS[0]})\n", file),
    "json": lambda file, text: make_definitions.write_json(file, {"content": text}),
    "picture": lambda file, text: make_screenshots._write(file, text.encode()),
}


@pytest.fixture(params=WRITERS.values(), ids=WRITERS)
def write(request, monkeypatch, tmp_path):
    monkeypatch.setattr(make_screenshots, "ROOT", tmp_path)  # below which it names what it has written
    return request.param


def test_a_file_is_written_into_a_new_folder_and_again(write, tmp_path):
    file = tmp_path / "new" / "file.md"
    for text in ("first", "second"):
        write(file, text)
        assert text in file.read_text(encoding="utf-8") and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("step", ["pathlib.Path.write_bytes", "os.replace"])
def test_a_write_that_fails_leaves_the_file_as_it_was(write, step, tmp_path, monkeypatch):
    file = tmp_path / "file.md"
    write(file, "first")
    before = file.read_bytes()

    def full(part, *_):
        pathlib.Path(part).touch()
        raise OSError("the disk is full")

    monkeypatch.setattr(step, full)
    with pytest.raises(OSError, match="full"):
        write(file, "second")
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]
