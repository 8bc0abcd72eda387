"""What must not be opened or made room for among the pictures of a folder, and how it is named."""

import os
import socket
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

import guidance_core as gc
from guidance_core.data import image_file
from guidance_core.data.folders import read_folder, scan_images
from guidance_core.data.image_file import MAX_PIXELS, ImageFile, fault, read_picture
from guidance_core.errors import printable
from guidance_core.progress import run_to_end

posix = pytest.mark.skipif(os.name == "nt", reason="no such files there")
TOO_LARGE = "pixels, and at most 67 million are read: make it smaller"
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


def save(file, colour=(220, 30, 40)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), colour).save(file)
    return file


def declared(width, height):
    """A PNG of few bytes that says it is so large."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.fixture(params=["classes", "captions", "table", "one label"])
def scanned(request, tmp_path):
    """(where a file must lie to be seen, what becomes of the folder): (labelled files, {name: reason})."""
    root = tmp_path / "images"
    inner = root / "cat" if request.param == "classes" else root
    for i in range(2):
        save(inner / f"{i}.png")
    if request.param == "classes":
        save(root / "dog" / "2.png")

    def scan(name=""):
        if request.param == "captions":
            for file in [*root.glob("*.png"), *root.glob("*.jpg"), *root.glob("*.gif")]:
                file.with_suffix(".txt").write_text("cat" if file.name == "0.png" else "dog")
        if request.param == "table":
            rows = ["0.png,cat", "1.png,dog", *([f"{name},dog"] if name else [])]
            (root / "table.csv").write_text("\n".join(["file,label", *rows]), encoding="utf-8")
        if request.param == "one label":
            files, skipped = run_to_end(scan_images(root))
        else:
            found = read_folder(root, minimum=1)
            files, skipped = found.files, found.skipped
        return len(files), {one.name.removeprefix("cat/"): one.reason for one in skipped}

    return inner, scan


def test_a_picture_that_is_too_large_is_not_decoded(scanned):
    place, scan = scanned
    (place / "bomb.png").write_bytes(declared(13000, 13000))
    (place / "more.png").write_bytes(declared(100_000, 100_000))
    good, _ = scan()
    _, reasons = scan("bomb.png")
    assert good >= 2
    assert reasons["bomb.png"] == f"cannot be read as a picture (it has 13000 by 13000 {TOO_LARGE})"
    if "more.png" in reasons:
        assert reasons["more.png"] == f"cannot be read as a picture (it has too many {TOO_LARGE})"


def test_the_largest_picture_is_read_and_no_larger(tmp_path, monkeypatch):
    monkeypatch.setattr(image_file, "MAX_PIXELS", 24)
    assert fault(save(tmp_path / "a.png")) == ""
    Image.new("RGB", (5, 5)).save(tmp_path / "b.png")
    assert "it has 5 by 5 pixels" in fault(tmp_path / "b.png")
    with pytest.raises(
        gc.GuidanceError, match="'b.png' cannot be read as a picture .it has 5 by 5 pixels, and at most"
    ):
        read_picture(tmp_path / "b.png")
    assert MAX_PIXELS == 8192**2


def test_a_file_of_too_many_bytes_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(image_file, "MAX_BYTES", 2**20)
    (tmp_path / "a.png").write_bytes(bytes(2**20 + 1))
    assert fault(tmp_path / "a.png") == "cannot be read as a picture (it has 1 MiB, and at most 1 are read)"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif"])
def test_a_file_of_another_format_starts_no_program(scanned, name, monkeypatch):
    """Pillow hands PostScript to Ghostscript, whatever the file's name."""
    place, scan = scanned
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: started.append(1))
    (place / name).write_bytes(POSTSCRIPT)
    _, reasons = scan(name)
    assert not started
    assert reasons[name].startswith("cannot be read as a picture (it is not PNG, JPEG, WEBP, BMP, GIF or TIFF")


@posix
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_no_plain_file_is_never_opened(scanned, kind, monkeypatch):
    place, scan = scanned
    monkeypatch.chdir(place)  # the path of a socket must be short
    if kind == "pipe":
        os.mkfifo("never.png")
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("never.png")
    good, reasons = scan("never.png")
    assert (good, reasons["never.png"]) == (3 if (place.parent / "dog").is_dir() else 2, "is no plain file")
    with pytest.raises(gc.GuidanceError, match="'never.png' cannot be read as a picture .it is not there, or no plain"):
        read_picture(place / "never.png")


@posix
def test_links_out_of_the_folder_are_refused(scanned, tmp_path):
    place, scan = scanned
    for name, target in (("out.png", save(tmp_path / "secret.png")), ("zero.png", "/dev/zero")):
        (place / name).symlink_to(target)
    (place / "inner.png").symlink_to("1.png")
    (place / "loop.png").symlink_to("loop.png")
    (place / "gone.png").symlink_to("nothing.png")
    for name in ("out.png", "zero.png", "loop.png", "gone.png", "inner.png"):
        _, reasons = scan(name)
        assert reasons.get(name, "") == {
            "out.png": "is a link to a file outside of the folder",
            "zero.png": "is a link to a file outside of the folder",
            "inner.png": "",
            "loop.png": "cannot be read (Too many levels of symbolic links)",
            "gone.png": "does not exist",
        }.get(name), name


@posix
def test_captions_and_tables_that_are_links_out_of_the_folder_are_not_read(tmp_path):
    root = tmp_path / "images"
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "secret.csv").write_text("file,label\n0.png,secret\n")
    for i in range(3):
        save(root / f"{i}.png")
        (root / f"{i}.txt").write_text("cat" if i else "dog")
    save(root / "3.png")
    (root / "3.txt").symlink_to(tmp_path / "secret.txt")
    found = read_folder(root, minimum=1)
    assert found.labels == ("cat", "dog")
    assert [(one.name, one.reason) for one in found.skipped] == [
        ("3.png", "its caption is a link to a file outside of the folder")
    ]
    (root / "table.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(gc.GuidanceError, match="'table.csv' is a link to a file outside of the folder"):
        read_folder(root)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8_are_written_out(scanned):
    place, scan = scanned
    name = os.fsdecode(b"caf\xe9.png")
    (place / name).write_bytes(b"no picture")
    _, reasons = scan()
    assert all(reason.startswith("cannot be read as a picture") for reason in reasons.values())
    assert list(reasons) in (["caf\\udce9.png"], [])  # a table does not name it
    with pytest.raises(gc.GuidanceError, match=r"'caf\\udce9.png' cannot be read"):
        read_picture(place / name)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_class_whose_name_is_not_utf8_is_refused(tmp_path):
    save(tmp_path / os.fsdecode(b"caf\xe9") / "0.png")
    with pytest.raises(gc.GuidanceError, match=r"The folder 'caf\\udce9' cannot be a class: its name is not UTF-8"):
        read_folder(tmp_path)


@pytest.mark.parametrize("entry", ["x" * 300 + ".png", "é" * 200 + ".png", "a/" * 3000 + "b.png", "a\0b.png"])
def test_a_name_that_no_file_can_have_is_a_fault_of_its_row(tmp_path, entry):
    for i in range(2):
        save(tmp_path / f"{i}.png")
    (tmp_path / "t.csv").write_text(f"file,label\n0.png,a\n{entry},a\n1.png,b\n", encoding="utf-8")
    found = read_folder(tmp_path, minimum=1)
    assert len(found.items) == 2
    (skipped,) = found.skipped
    assert len(skipped.name) <= 203
    assert skipped.reason in ("cannot be read (File name too long)", "has a name that no file can have")


def test_reasons_carry_no_path(tmp_path):
    save(tmp_path / "good.png")
    for name, content in {"a.png": b"no", "b.jpg": b"\xff\xd8\xff\xe0cut", "c.gif": b"", "d.webp": POSTSCRIPT}.items():
        (tmp_path / name).write_bytes(content)
    files, skipped = run_to_end(scan_images(tmp_path))
    assert [file.name for file in files] == ["good.png"] and len(skipped) == 4
    for one in skipped:
        assert str(tmp_path) not in one.reason and "object at" not in one.reason and "/" not in one.name
    (tmp_path / "good.png").unlink()
    with pytest.raises(gc.GuidanceError) as refused:
        run_to_end(scan_images(tmp_path))
    assert str(tmp_path) not in str(refused.value) and "'a.png' cannot be read" in str(refused.value)
    with pytest.raises(gc.GuidanceError) as refused:
        read_folder(tmp_path)
    assert str(tmp_path) not in str(refused.value)


def test_a_text_of_any_length_is_not_read(tmp_path, monkeypatch):
    save(tmp_path / "0.png")
    monkeypatch.setattr("guidance_core.data.layouts.base.MAX_TEXT", 2**20)
    (tmp_path / "0.txt").write_bytes(b"cat," * 2**18 + b"x")
    with pytest.raises(gc.GuidanceError, match="'0.txt' is too long: at most 1 MiB of text are read"):
        read_folder(tmp_path)


def test_sixteen_bits_become_eight_by_rounding(tmp_path):
    levels = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(levels).save(tmp_path / "a.png")
    expected = torch.from_numpy((levels / 257).round().astype(np.uint8))
    assert torch.equal(ImageFile.read(tmp_path / "a.png").pixels(), expected[:, :, None].expand(-1, -1, 3))


def test_what_is_printable_stays():
    for name in ("plain", "Köter", "नमस्ते", "สวัสดี", "日本", "a b/c"):
        assert printable(name) == name
    assert printable("\udcff") == "\\udcff"
