"""The latent cache: nothing is encoded twice, nothing wrong is handed out, and what is damaged heals."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import guidance_core as gc
from devtools.small_disk import NoDisk, small_disk
from guidance_core.data.image_file import ImageFile
from guidance_core.data.latent_cache import EncodeProgress, encode_cached, latents_of, stacked
from guidance_core.progress import run_to_end

SIZE = ((8, 8),)


@pytest.fixture
def files(tmp_path):
    """Five pictures of noise, 12 wide and 10 high."""
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return sorted(tmp_path.glob("*.png"))


class Encoder:
    """Pictures as latents, 2x2 means less 0.5; remembers the size of each batch."""

    def __init__(self):
        self.batches = []

    def __call__(self, pictures):
        assert pictures.min() >= 0 and pictures.max() <= 1
        self.batches.append(len(pictures))
        return torch.nn.functional.avg_pool2d(pictures.permute(0, 3, 1, 2), 2) - 0.5


@pytest.fixture
def encoder():
    return Encoder()


class Encoded(NamedTuple):
    """What encode_cached returned, and its last progress."""

    latents: tuple[torch.Tensor, ...]
    progress: EncodeProgress

    @property
    def reused(self):
        return self.progress.reused


def encoded(files, encode, folder, key="vae", sizes=SIZE, **options):
    seen = []
    latents = run_to_end(encode_cached(files, encode, key, folder, sizes=sizes, **options), seen.append)
    return Encoded(latents, seen[-1])


def cache_files(folder):
    return sorted(folder.rglob("*.safetensors"))


def test_the_second_time_nothing_is_encoded(files, encoder, tmp_path):
    first = encoded(files, encoder, tmp_path / "cache", batch=2)
    assert encoder.batches == [2, 2, 1]
    again = encoded(files, encoder, tmp_path / "cache", batch=2)
    assert encoder.batches == [2, 2, 1]
    assert (first.progress, again.reused) == (EncodeProgress(5, 5, reused=0), 5)
    assert len(again.latents) == 5 and all(map(torch.equal, first.latents, again.latents))
    assert len({latent.sum().item() for latent in first.latents}) == 5  # in the order of the files, not one for all
    for file, latent in zip(files, first.latents, strict=True):
        assert torch.equal(latent, encoded([file], Encoder(), tmp_path / "other").latents[0])


def test_progress_counts_what_is_done(files, encoder, tmp_path):
    encoded(files[:2], encoder, tmp_path / "cache")
    steps = list(encode_cached(files, encoder, "vae", tmp_path / "cache", sizes=SIZE, batch=2))
    assert [(step.done, step.reused) for step in steps] == [(1, 1), (2, 2), (3, 2), (4, 2), (5, 2)]


def test_an_interrupted_run_goes_on_where_it_was(files, encoder, tmp_path):
    for step in encode_cached(files, encoder, "vae", tmp_path / "cache", sizes=SIZE, batch=2):
        if step.done == 3:
            break
    assert encoder.batches == [2, 2]
    assert encoded(files, encoder, tmp_path / "cache", batch=2).reused == 4
    assert encoder.batches == [2, 2, 1]


def test_another_key_size_or_content_is_another_latent(files, encoder, tmp_path):
    encoded(files, encoder, tmp_path / "cache")
    assert encoded(files, encoder, tmp_path / "cache", key="other vae").reused == 0
    assert encoded(files, encoder, tmp_path / "cache", sizes=((8, 8), (8, 16))).reused == 0
    changed = Image.open(files[0])
    changed.putpixel((6, 5), (0, 0, 0))
    changed.save(files[0])
    assert encoded(files, encoder, tmp_path / "cache").reused == 4


def test_a_picture_is_known_by_its_content_not_its_name(files, encoder, tmp_path):
    encoded(files, encoder, tmp_path / "cache")
    moved = files[0].rename(tmp_path / "moved.png")
    assert encoded([moved, *files[1:]], encoder, tmp_path / "cache").reused == 5


def emptied(file):
    file.write_bytes(b"")


def cut(file):
    file.write_bytes(file.read_bytes()[:-7])


def flipped(file):
    data = bytearray(file.read_bytes())
    data[-3] ^= 1  # one bit of the latent
    file.write_bytes(data)


def another(file):
    gc.NoisyClassifier.load(Path(gc.__file__).parent / "demo" / "classifier.safetensors").save(file)


@pytest.mark.parametrize("damage", [emptied, cut, flipped, another, Path.unlink])
def test_a_damaged_cache_file_is_encoded_anew(files, encoder, tmp_path, damage):
    first = encoded(files, encoder, tmp_path / "cache")
    damage(cache_files(tmp_path / "cache")[2])
    healed = encoded(files, encoder, tmp_path / "cache")
    assert healed.reused == 4 and all(map(torch.equal, first.latents, healed.latents))
    assert encoded(files, encoder, tmp_path / "cache").reused == 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_is_kept(files, encoder, tmp_path, dtype):
    first = encoded(files, lambda pictures: encoder(pictures).to(dtype), tmp_path / "cache")
    again = encoded(files, encoder, tmp_path / "cache")
    assert again.reused == 5 and again.latents[0].dtype == dtype
    assert all(map(torch.equal, first.latents, again.latents))


def test_pictures_of_several_sizes_are_encoded_apart(files, encoder, tmp_path):
    Image.new("RGB", (40, 20)).save(files[1])
    Image.new("RGB", (60, 30)).save(files[3])
    done = encoded(files, encoder, tmp_path / "cache", sizes=((8, 8), (8, 16)), batch=4)
    assert [tuple(latent.shape) for latent in done.latents] == [(3, 4, 4), (3, 4, 8), (3, 4, 4), (3, 4, 8), (3, 4, 4)]
    assert sorted(encoder.batches) == [2, 3]
    with pytest.raises(gc.GuidanceError, match=r"one shape.*\(3, 4, 4\), \(3, 4, 8\): encode the pictures at one size"):
        stacked(done.latents)
    assert stacked(done.latents[::2]).shape == (3, 3, 4, 4)


def test_wrong_latents_are_refused_and_not_kept(files, encoder, tmp_path):
    for encode, sentence in [
        (lambda pictures: encoder(pictures)[:1], r"one for each of 5 pictures; it gave \[1, 3, 4, 4\]"),
        (lambda pictures: encoder(pictures).flatten(1), r"it gave \[5, 48\]"),
        (lambda pictures: encoder(pictures) / 0, "latent of '0.png' is not finite"),
    ]:
        with pytest.raises(gc.GuidanceError, match=sentence):
            encoded(files, encode, tmp_path / "cache", batch=5)
    assert not cache_files(tmp_path / "cache")


def test_a_batch_is_on_disk_before_the_caller_hears_of_it(files, encoder, tmp_path):
    stream = latents_of(files, encoder, "vae", tmp_path / "cache", sizes=SIZE, batch=5)
    next(stream)
    stream.close()
    assert len(cache_files(tmp_path / "cache")) == 5


WORKER = """
import sys, torch
from pathlib import Path
from guidance_core.data.latent_cache import encode_cached
from guidance_core.progress import run_to_end

folder = Path(sys.argv[1])
files = sorted(folder.glob("*.png"))
for turn in range(20):
    work = encode_cached(files, lambda p: p.permute(0, 3, 1, 2), f"{turn}", folder / "cache", sizes=((8, 8),))
    assert len(run_to_end(work)) == len(files)
"""


def test_two_processes_share_a_cache(files, tmp_path):
    root = Path(gc.__file__).parents[1]
    command = [sys.executable, "-W", "error", "-c", WORKER, str(tmp_path)]
    workers = [subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [worker.communicate()[1] for worker in workers] == ["", ""]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert len(cache_files(tmp_path / "cache")) == 100
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_an_image_that_is_replaced_while_it_is_hashed_leaves_no_wrong_latent(files, encoder, tmp_path, monkeypatch):
    """What is hashed is what is decoded: the bytes are read once."""
    want = encoded(files[:1], encoder, tmp_path / "other").latents[0]
    digest = ImageFile.digest

    def replaced(image, *more):
        Image.new("RGB", (12, 10), "white").save(files[0])
        return digest(image, *more)

    content = files[0].read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(ImageFile, "digest", replaced)
        got = encoded(files[:1], encoder, tmp_path / "cache").latents[0]
    assert torch.equal(got, want)
    files[0].write_bytes(content)
    again = encoded(files[:1], encoder, tmp_path / "cache")
    assert again.reused == 1 and torch.equal(again.latents[0], want)


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_encoding_goes_on_without_a_cache_that_cannot_be_written(files, encoder, tmp_path, fault):
    want = encoded(files, encoder, tmp_path / "cache").latents
    told = []
    try:
        with small_disk(tmp_path / "disk", 2**16) as disk:
            first = encoded(files[:2], encoder, disk.path / "cache", batch=1, unkept=told.append)
            if fault == "full":
                disk.fill()
            else:
                disk.read_only()
            assert not told and first.reused == 0
            all_of_them = encoded(files, encoder, disk.path / "cache", batch=1, unkept=told.append)
            assert all(map(torch.equal, all_of_them.latents, want)) and all_of_them.reused == 2
            (sentence,) = told
            assert sentence.startswith("Latents are encoded without being kept. '")
            assert f"could not be written: the disk is {fault}." in sentence
            with pytest.warns(UserWarning, match="without being kept"):
                encoded(files, encoder, disk.path / "cache")
            if fault == "full":
                disk.empty()
                assert encoded(files, encoder, disk.path / "cache").reused == 2
                assert encoded(files, encoder, disk.path / "cache").reused == 5
    except NoDisk as error:
        pytest.skip(str(error))
