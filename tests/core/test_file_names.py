"""Names of files: what every system takes, in every script, and what is refused in a sentence on each alike."""

import subprocess
import sys
from pathlib import Path

import pytest

import guidance_core as gc
from guidance_core.errors import GuidanceError
from guidance_core.file_names import name_parts
from guidance_core.writing import create, write_whole


def refused(name):
    with pytest.raises(GuidanceError) as error:
        name_parts(name, "a classifier", "models/x")
    assert len(str(error.value)) < 400
    return str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "my style",
        "a-b_c (2), v1.5+",
        "_x",
        "हिन्दी",  # vowels that combine
        "ภาษาไทย ที่นี่",
        "cafe\u0301",  # an accent written apart
        "ألعربية",
        "日本語" * 20,
        "é" * 100,
        "x" * 100,
        "console",
        "com10",
        "aux2",
        "1",
    ],
)
def test_names_of_every_script(name, tmp_path):
    assert name_parts(name, "a classifier", "models/x") == [name]
    write_whole(tmp_path / f"{name} (unfinished) 99.safetensors", b"")


def test_folders_are_told_apart_and_spaces_around_names_left_out():
    assert name_parts(" a / b c /d ", "a classifier", "models/x") == ["a", "b c", "d"]
    assert len(name_parts("a/" * 16 + "b", "a classifier", "models/x")) == 17


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "/a",
        "a/",
        "a//b",
        "..",
        "../a",
        "a/../b",
        ".a",
        " .a",
        "-a",
        "a\\b",
        "a:b",
        "a*",
        "a?",
        'a"',
        "a<b",
        "a|b",
        "a\0",
        "a\nb",
        "\u202ea",
        "a\u200bb",
        "\u0301a",
        "\udcffa",
    ],
)
def test_what_no_name_may_hold(name):
    assert "cannot be the name of a classifier: use letters, digits, spaces and - _ . , ( ) +, and / for" in refused(
        name
    )


@pytest.mark.parametrize(
    "name", ["con", "NUL", "Aux", "com1", "LPT9", "prn.txt", "con.tar.gz", "a/nul/b", "COM²", "nul ."]
)
def test_names_of_devices_are_refused_on_every_system(name):
    assert "is the name of a device on Windows" in refused(name) or "ends with a dot" in refused(name)


@pytest.mark.parametrize("name", ["a.", "a...", "a./b", "b/a. "])
def test_dots_at_the_end_are_refused_on_every_system(name):
    assert refused(name).endswith("on Windows no name ends with a dot.")


@pytest.mark.parametrize("name", ["x" * 101, "日" * 67, "x" * 100000, "b/" + "क" * 67])
def test_names_that_are_too_long(name):
    assert "it is too long; 100 letters fit" in refused(name)


def test_thousands_of_folders():
    assert "it has 5000 folders, and 16 are the most" in refused("a/" * 5000 + "b")


CREATE = """
import sys
from pathlib import Path
from guidance_core.writing import create
for number in range(200):
    if create(Path(sys.argv[1]) / f"{number}"):
        print(number)
"""


def test_of_several_processes_that_take_a_name_one_gets_it(tmp_path):
    root = Path(gc.__file__).parents[1]
    command = [sys.executable, "-c", CREATE, str(tmp_path / "new")]
    workers = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    got = [int(number) for worker in workers for number in worker.communicate()[0].split()]
    assert sorted(got) == list(range(200))


def test_a_name_that_is_taken_by_anything(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert not create(tmp_path / "folder") and not create(tmp_path / "file") and create(tmp_path / "new" / "inner")
    with pytest.raises(GuidanceError, match="could not be written: a file lies where its folder should be"):
        create(tmp_path / "file" / "inner")
    with pytest.raises(GuidanceError, match="could not be written: its name is too long"):
        create(tmp_path / ("x" * 300))
