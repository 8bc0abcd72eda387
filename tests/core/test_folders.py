"""Labelled pictures from disk: the three layouts, what is skipped and what is refused, and how pictures are read."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

import guidance_core as gc
from guidance_core.data.folders import read_folder, scan_folder
from guidance_core.data.image_file import aspect_sizes, read_picture
from guidance_core.data.images import PictureSource
from guidance_core.progress import Progress, run_to_end

RED, BLUE = (220, 30, 40), (20, 60, 200)


def save(file, colour=RED, size=(6, 4), **options):
    """A picture of one colour, `size` wide and high."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file, **options)
    return file


def names(pictures):
    return [item.path.name for item in pictures.items]


def reasons(pictures):
    return {one.name: one.reason for one in pictures.skipped}


def table(folder, text, count=6, encoding="utf-8"):
    """A folder of `count` pictures 0.png, 1.png, ... with a table."""
    for i in range(count):
        save(folder / f"{i}.png")
    (folder / "table.csv").write_text(text, encoding=encoding)
    return folder


@pytest.fixture
def classes(tmp_path):
    """Two classes of three pictures; one lies deeper."""
    for i in range(3):
        save(tmp_path / "cat" / ("deep/er" if i == 2 else ".") / f"{i}.png", RED)
        save(tmp_path / "a dog" / f"{i}.JPG", BLUE)
    return tmp_path


# --- one folder a class -----------------------------------------------------------------------------------------------


def test_sub_folders_are_classes_and_the_order_is_fixed(classes):
    pictures = read_folder(classes, minimum=3)
    assert (pictures.labels, pictures.head.name, pictures.skipped) == (("a dog", "cat"), "single", ())
    assert names(pictures) == ["0.JPG", "1.JPG", "2.JPG", "0.png", "1.png", "2.png"]
    assert pictures.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert pictures.files == [item.path for item in pictures.items]


def test_progress_counts_every_file(classes):
    seen = []
    assert run_to_end(scan_folder(classes, minimum=3), seen.append) == read_folder(classes, minimum=3)
    assert seen == [Progress(done, 6) for done in range(1, 7)]


def test_what_is_hidden_or_no_picture_is_not_seen(classes):
    save(classes / ".hidden" / "0.png")
    save(classes / "cat" / ".thumbs" / "0.png")
    save(classes / "cat" / ".0.png")
    (classes / "cat" / "notes.md").write_text("not a picture")
    pictures = read_folder(classes, minimum=3)
    assert (pictures.labels, len(pictures.items), pictures.skipped) == (("a dog", "cat"), 6, ())


def test_damaged_pictures_are_skipped_by_name(classes):
    for kind in ("jpg", "png"):
        whole = save(classes / "cat" / f"whole.{kind}", size=(64, 64)).read_bytes()
        (classes / "cat" / f"cut.{kind}").write_bytes(whole[: len(whole) // 2])
    (classes / "cat" / "text.png").write_text("no picture at all")
    (classes / "cat" / "empty.webp").write_bytes(b"")
    pictures = read_folder(classes, minimum=3)
    assert sorted(reasons(pictures)) == ["cat/cut.jpg", "cat/cut.png", "cat/empty.webp", "cat/text.png"]
    assert all(reason.startswith("cannot be read as a picture") for reason in reasons(pictures).values())
    assert len(pictures.items) == 8


def test_a_class_that_is_too_small_says_how_many_are_needed(classes):
    with pytest.raises(gc.GuidanceError, match="at least 4 pictures: 'a dog' has 3, 'cat' has 3. Add"):
        read_folder(classes, minimum=4)
    (classes / "ox").mkdir()
    with pytest.raises(gc.GuidanceError, match="at least 3 pictures: 'ox' has 0"):
        read_folder(classes, minimum=3)


def test_a_class_that_is_too_small_because_pictures_are_damaged_names_them(classes):
    (classes / "cat" / "0.png").write_bytes(b"")
    with pytest.raises(gc.GuidanceError, match=r"'cat' has 2.*not used: 'cat/0.png' cannot be read"):
        read_folder(classes, minimum=3)


def test_one_class_alone_is_refused(tmp_path):
    save(tmp_path / "cat" / "0.png")
    with pytest.raises(gc.GuidanceError, match="All pictures have the label 'cat'"):
        read_folder(tmp_path, minimum=1)


def test_pictures_beside_the_classes_are_named(classes):
    save(classes / "stray.png")
    assert reasons(read_folder(classes, minimum=3)) == {"stray.png": "lies beside the folders of the classes"}


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_out_of_the_folder_are_not_followed(classes, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (classes / "cat" / "link.png").symlink_to(save(outside / "secret.png"))
    (classes / "cat" / "inner.png").symlink_to(classes / "a dog" / "0.JPG")
    (classes / "cat" / "folder").symlink_to(outside)
    pictures = read_folder(classes, minimum=3)
    assert reasons(pictures) == {"cat/link.png": "is a link to a file outside of the folder"}
    assert "inner.png" in names(pictures) and "secret.png" not in names(pictures)


def test_nothing_there(tmp_path):
    with pytest.raises(gc.GuidanceError, match="There is no folder"):
        scan_folder(tmp_path / "none")
    with pytest.raises(gc.GuidanceError, match="no labelled picture"):
        scan_folder(tmp_path)


# --- captions ---------------------------------------------------------------------------------------------------------


def captions(folder, texts):
    for i, text in enumerate(texts):
        save(folder / f"{i}.png")
        if text is not None:
            (folder / f"{i}.txt").write_text(text, encoding="utf-8")
    return folder


def test_tags_beside_each_picture(tmp_path):
    captions(tmp_path, ["cat, Out  doors", "dog,\ncat", "Dog", "out doors,  ,Cat", "dog, all", None, " ,"])
    pictures = read_folder(tmp_path, minimum=2)
    assert (pictures.labels, pictures.head.name, pictures.left_out) == (("Out doors", "cat", "dog"), "multi", ("all",))
    assert pictures.targets.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 1, 0], [0, 0, 1]]
    assert reasons(pictures) == {
        "5.png": "has no caption '5.txt' beside it",
        "6.png": "its caption '6.txt' is empty",
    }


def test_one_tag_each_is_a_class_each(tmp_path):
    pictures = read_folder(captions(tmp_path, ["cat", "dog", "cat", "dog"]), minimum=2)
    assert (pictures.labels, pictures.head.name, pictures.targets.tolist()) == (("cat", "dog"), "single", [0, 1, 0, 1])


def test_a_tag_of_every_picture_tells_nothing(tmp_path):
    pictures = read_folder(captions(tmp_path, ["art, cat", "art, cat", "art", "art"]), minimum=2)
    assert (pictures.labels, pictures.left_out) == (("cat",), ("art",))
    with pytest.raises(gc.GuidanceError, match="No tag can be learned.*at least 3 pictures"):
        read_folder(tmp_path, minimum=3)


def test_captions_must_be_text(tmp_path):
    save(tmp_path / "0.png")
    (tmp_path / "0.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(gc.GuidanceError, match="'0.txt' is not UTF-8 text"):
        read_folder(tmp_path)


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_of_labels(tmp_path, encoding):
    text = (
        'file,label\r\n0.png,"cat, big"\r\n1.png,Köter\r\n2.png,Köter\r\n\r\n3.png,"cat, big"\r\n4.png, \r\n9.png,x\r\n'
    )
    pictures = read_folder(table(tmp_path, text, encoding=encoding), minimum=2)
    assert (pictures.labels, pictures.head.name) == (("Köter", "cat, big"), "single")
    assert pictures.targets.tolist() == [1, 0, 0, 1]
    assert reasons(pictures) == {"4.png": "has no label in the table", "9.png": "does not exist"}


def test_a_table_of_several_labels(tmp_path):
    folder = table(tmp_path, "label,file\na | b,0.png\nb,1.png\na,2.png\nc|b,3.png\n")
    pictures = read_folder(folder / "table.csv", minimum=1)
    assert (pictures.labels, pictures.head.name) == (("a", "b", "c"), "multi")
    assert pictures.targets.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 1, 1]]


def test_a_table_of_scores(tmp_path):
    folder = table(tmp_path, "file,beauty,sharpness\n0.png,5.5,1e-3\n1.png,-2,0\n")
    pictures = read_folder(folder, minimum=2)
    assert (pictures.labels, pictures.head.name) == (("beauty", "sharpness"), "regression")
    torch.testing.assert_close(pictures.targets, torch.tensor([[5.5, 1e-3], [-2, 0]]))
    with pytest.raises(gc.GuidanceError, match="2 pictures with scores, and at least 3 are needed"):
        read_folder(folder, minimum=3)


def test_a_table_reaches_into_sub_folders_whatever_the_separator(tmp_path):
    save(tmp_path / "a" / "b" / "0.png")
    save(tmp_path / "a" / "1.png")
    (tmp_path / "table.csv").write_text("file,label\na\\b\\0.png,x\na/1.png,y\n")
    assert names(read_folder(tmp_path, minimum=1)) == ["0.png", "1.png"]


@pytest.mark.parametrize(
    "entry", ["../secret.png", "a/../../secret.png", "/etc/secret.png", "C:\\secret.png", "C:secret.png", "\\s.png", ""]
)
def test_a_table_never_leads_out_of_its_folder(tmp_path, entry):
    save(tmp_path / "secret.png")
    folder = table(tmp_path / "in", f'file,label\n0.png,x\n"{entry}",y\n')
    with pytest.raises(gc.GuidanceError, match="row 3: .* must be a path inside the folder"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must begin with a header"),
        ("0.png,cat\n1.png,dog\n", "it begins with '0.png,cat'"),
        ("file\n0.png\n", "must begin with a header"),
        ("file,a,a\n0.png,1,2\n", "header of different names"),
        ("file,label\n0.png,cat,dog\n", "row 2: 3 values for the 2 columns file, label"),
        ("file,label\n0.png,a\n1.png,a\n0.png,b\n", "row 4: '0.png' is already in row 2"),
        ("file,lable\n0.png,cat\n", "'cat' is not a number. .Labels belong in a column named 'label'"),
        ("file,score\n0.png,nan\n", "'nan' is not a number"),
        ('file,label\n0.png,"cat\n', "is not a CSV table"),
        ("file,label\n", "no labelled picture"),
    ],
)
def test_a_table_that_is_wrong(tmp_path, text, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence):
        scan_folder(table(tmp_path, text))


def test_two_tables_are_one_too_many(tmp_path):
    table(tmp_path, "file,label\n0.png,a\n1.png,b\n")
    (tmp_path / "other.csv").write_text("file,label\n0.png,b\n")
    with pytest.raises(gc.GuidanceError, match="several CSV tables.*other.csv, table.csv"):
        scan_folder(tmp_path)
    assert len(read_folder(tmp_path / "table.csv", minimum=1).items) == 2


# --- reading ----------------------------------------------------------------------------------------------------------


def test_colours_are_those_of_the_file(tmp_path):
    pixels = torch.arange(4 * 6 * 3, dtype=torch.uint8).reshape(4, 6, 3)
    Image.fromarray(pixels.numpy()).save(tmp_path / "a.png")
    assert torch.equal(read_picture(tmp_path / "a.png"), pixels.float() / 255)


GREY = np.linspace(0, 255, 24).round().astype(np.uint8).reshape(4, 6)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(GREY),
        Image.fromarray(GREY.astype(np.uint16) * 257),
        Image.fromarray(GREY).convert("P"),
        Image.fromarray(GREY).convert("LA"),
        Image.fromarray(GREY).convert("RGBA"),
    ],
    ids=["8 bits", "16 bits", "palette", "grey with alpha", "colour with alpha"],
)
def test_every_kind_of_png_reads_alike(tmp_path, image):
    image.save(tmp_path / "a.png")
    expected = torch.tensor(GREY).float()[:, :, None].expand(-1, -1, 3) / 255
    torch.testing.assert_close(read_picture(tmp_path / "a.png"), expected, rtol=0, atol=0.5 / 255)


def test_other_formats_read_too(tmp_path):
    for name in ("a.webp", "a.bmp", "a.gif", "a.tiff", "a.jpeg"):
        picture = read_picture(save(tmp_path / name, size=(16, 16)))
        torch.testing.assert_close(picture, (torch.tensor(RED) / 255).expand(16, 16, 3), rtol=0, atol=4 / 255)
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg")
    red, green, blue = read_picture(tmp_path / "c.jpg").mean((0, 1)).tolist()
    assert red > 0.9 and green < 0.1 and blue < 0.1


def test_what_is_transparent_becomes_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    image.save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").tolist() == [[[0, 0, 0], [1, 1, 1]]]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png", transparency=1)
    assert read_picture(tmp_path / "p.png").tolist() == [[[0, 0, 0], [1, 1, 1]]]


def test_a_picture_is_turned_upright(tmp_path):
    pixels = torch.zeros(2, 3, 3, dtype=torch.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: to be turned clockwise
    Image.fromarray(pixels.numpy()).save(tmp_path / "a.png", exif=exif)
    assert torch.equal(read_picture(tmp_path / "a.png"), pixels.rot90(-1).float() / 255)


def test_resize_covers_and_cuts_around_the_centre(tmp_path):
    pixels = torch.zeros(4, 12, 3, dtype=torch.uint8)
    pixels[:, 4:8] = 255  # the middle third
    Image.fromarray(pixels.numpy()).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", (4, 4)).min() == 1
    half = read_picture(tmp_path / "a.png", (2, 6))
    torch.testing.assert_close(half, half.flip(1))
    assert half.shape == (2, 6, 3) and half[:, 2:4].min() > 0.95 > 0.05 > half[:, [0, 5]].max()


def test_of_several_sizes_the_nearest_aspect_ratio_is_taken(tmp_path):
    sizes = aspect_sizes(256, 32)
    assert sizes[0] == (256, 256) and all(h % 32 == w % 32 == 0 for h, w in sizes)
    assert all(0.9 < h * w / 256**2 < 1.1 for h, w in sizes)
    for size, expected in [((100, 100), (256, 256)), ((300, 400), (288, 224)), ((1600, 900), (192, 352))]:
        assert read_picture(save(tmp_path / "a.png", size=size), *sizes).shape[:2] == expected


def test_what_cannot_be_read_is_a_sentence(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(gc.GuidanceError, match="'a.png' cannot be read as a picture"):
        read_picture(tmp_path / "a.png")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(gc.GuidanceError, match="floating-point.*8 or 16 bits"):
        read_picture(tmp_path / "f.tiff")


# --- pictures as a training source ------------------------------------------------------------------------------------


def test_a_source_of_pictures(classes):
    pictures = read_folder(classes, minimum=3)
    source = PictureSource(pictures.files, pictures.targets, (4, 8))
    assert (source.shape, len(source), source.labels.tolist()) == ((3, 4, 8), 6, [0, 0, 0, 1, 1, 1])
    x0 = source.load(torch.tensor([5, 0, 5]))
    assert x0.dtype == torch.float32 and x0.shape == (3, 3, 4, 8)
    torch.testing.assert_close(x0[0, :, 0, 0], torch.tensor(RED) / 127.5 - 1)
    torch.testing.assert_close(x0[1, :, 0, 0], torch.tensor(BLUE) / 127.5 - 1, rtol=0, atol=0.04)
    assert torch.equal(x0[0], x0[2])


def test_copies_of_a_picture_are_one_group(classes):
    save(classes / "cat" / "other.png", (1, 2, 3))
    pictures = read_folder(classes, minimum=3)
    source = PictureSource(pictures.files, pictures.targets, (4, 4))
    groups = dict(zip(names(pictures), source.groups.tolist(), strict=True))
    assert groups["0.png"] == groups["1.png"] == groups["2.png"] != groups["other.png"]
    assert groups["0.JPG"] == groups["1.JPG"] not in (groups["0.png"], groups["other.png"])


def test_the_fingerprint_changes_with_what_is_learned(classes):
    pictures = read_folder(classes, minimum=3)
    prints = {
        PictureSource(pictures.files, pictures.targets, (4, 4)).fingerprint(),
        PictureSource(pictures.files, pictures.targets, (4, 8)).fingerprint(),
        PictureSource(pictures.files, 1 - pictures.targets, (4, 4)).fingerprint(),
    }
    same = PictureSource(pictures.files, pictures.targets, (4, 4)).fingerprint()
    assert len(prints) == 3 and same in prints
    save(pictures.files[0], (9, 9, 9))
    assert PictureSource(pictures.files, pictures.targets, (4, 4)).fingerprint() not in prints


def test_a_source_refuses_what_does_not_fit(classes):
    pictures = read_folder(classes, minimum=3)
    with pytest.raises(gc.GuidanceError, match="6 pictures and 5 labels"):
        PictureSource(pictures.files, pictures.targets[1:], (4, 4))
    with pytest.raises(gc.GuidanceError, match="at least 1 by 1, got 0 by 4"):
        PictureSource(pictures.files, pictures.targets, (0, 4))


@pytest.mark.parametrize("kept", [0, 2**31])
def test_pixels_are_kept_only_where_they_are_few(classes, monkeypatch, kept):
    monkeypatch.setattr("guidance_core.data.images.KEPT_BYTES", kept)
    pictures = read_folder(classes, minimum=3)
    source = PictureSource(pictures.files, pictures.targets, (4, 4))
    before = source.load(torch.tensor([0]))
    save(pictures.files[0], (9, 9, 9))
    assert torch.equal(source.load(torch.tensor([0])), before) == bool(kept)
