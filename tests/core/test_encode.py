"""Encoding: what was in folders and tars comes back as latents, the same for any number of processes and breaks."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import guidance_core as gc
from devtools.small_disk import NoDisk, small_disk
from guidance_core.__main__ import main
from guidance_core.data.labelling import decided
from guidance_core.data.shards import ShardSource
from guidance_core.distributed import Process
from guidance_core.encode.decode import CHUNK
from guidance_core.encode.encoding import Encoding
from guidance_core.encode.record import Records
from guidance_core.encode.samples import FolderSamples
from guidance_core.encode.tars import TarSamples, scan_tar
from guidance_core.encode.vae import encoder_of
from guidance_core.encode.vae.kl import KlEncoder
from guidance_core.encode.vae.taesd import taesd_encoder
from guidance_core.encode.vae.weights import KNOWN, WEIGHTS, LatentScale
from guidance_core.errors import OwnError
from guidance_core.progress import run_to_end

ROOT = Path(gc.__file__).parents[1]


def picture(number, width=8, height=8):
    """The bytes of a picture of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (number % 256, 255 * (number % 2), 0)).save(stream, "PNG")
    return stream.getvalue()


def tar_of(file, members):
    with tarfile.open(file, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def classes(count, ending="cls"):
    """Members of a tar: red and green pictures in turn."""
    for i in range(count):
        yield f"{i:04d}.png", picture(i)
        yield f"{i:04d}.{ending}", (b"red", b"green")[i % 2]


@pytest.fixture
def tar(tmp_path):
    return tar_of(tmp_path / "some.tar", classes(40))


def encoding(samples, out, sizes=((8, 8),), **options):
    labelling = decided(samples.tally, 1, samples.skipped)
    return Encoding(samples, labelling, encoder_of("pixels"), sizes, Records(out), **options)


def tars(*files, unit=12):
    return TarSamples(files, tuple(scan_tar(file, unit) for file in files))


def begun(work):
    """A launch that goes on where others stopped."""
    return work.run(work.to_do(), Process(), work.records.launch())


def content(out):
    """What is in a folder, but for who was at work on it."""
    files = [file for file in out.rglob("*") if file.is_file() and file.name != "launch"]
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}


def whole(work, processes=1):
    """Encode in so many processes, one after the other."""
    work.records.agree(work.plan, write=True)
    launch, to_do = work.records.launch(), work.to_do()
    for rank in range(processes):
        run_to_end(work.run(to_do, Process(rank, processes), launch))
    return work.finish()


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_a_tar_becomes_shards(tar, tmp_path):
    assert whole(encoding(tars(tar), tmp_path / "out")) == (40, 0)
    source = ShardSource.open(tmp_path / "out")
    assert (source.label_names, source.shape, source.latent_space) == (("green", "red"), (3, 8, 8), "")
    assert [shard.count for shard in source.shards] == [12, 12, 12, 4]
    assert source.labels.tolist() == [1, 0] * 20
    expected = torch.arange(40) / 127.5 - 1
    assert torch.allclose(source.load(torch.arange(40))[:, 0, 0, 0], expected, atol=1e-3)
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert (index["scale"], index["shift"], index["occurrences"]) == (1.0, 0.0, [20, 20])


def test_scale_and_shift_are_applied_and_written_down(tar, tmp_path, monkeypatch):
    options = ["--vae", "emoji", "--out", tmp_path / "out", "--workers", 0, "--shard-images", 25, "--batch", 20]
    assert main([str(word) for word in ["encode", tar, *options]]) == 0
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert (index["latent_space"], index["shape"], index["count"]) == ("emoji", [4, 16, 16], 40)
    demo = gc.demo.emoji.load()
    assert (index["scale"], index["shift"]) == (demo.scale, demo.shift)
    first = torch.tensor([0.0, 0.0, 0.0])[None, :, None, None].expand(1, 3, 64, 64)
    latent = ShardSource.open(tmp_path / "out").load(torch.tensor([0]))
    assert torch.allclose(latent, demo.encode(first), atol=2e-3)


@pytest.mark.parametrize("kind", ["cls", "txt", "json", "folder"])
def test_labels_in_tars(tmp_path, kind):
    said = {
        "cls": lambda i: [(f"x/{i}.cls", f"{i % 2}\n".encode())],
        "txt": lambda i: [(f"x/{i}.txt", b"big, red" if i % 2 else b"red\nsmall,")],
        "json": lambda i: [(f"x/{i}.json", json.dumps({"label": i % 2}).encode())],
        "folder": lambda i: [],
    }[kind]
    folder = (lambda i: ("a", "b")[i % 2]) if kind == "folder" else lambda i: "x"
    members = [part for i in range(6) for part in [*said(i), (f"{folder(i)}/{i}.x.png"[:-6] + ".png", picture(i))]]
    whole(encoding(tars(tar_of(tmp_path / "a.tar", members)), tmp_path / "out"))
    source = ShardSource.open(tmp_path / "out")
    if kind == "txt":
        assert (source.head.name, source.label_names) == ("multi", ("big", "small"))
        assert source.labels.tolist() == [[0, 1], [1, 0]] * 3
    else:
        assert source.label_names == (("a", "b") if kind == "folder" else ("0", "1"))
        assert source.labels.tolist() == [0, 1] * 3


def test_a_folder_and_a_table_become_shards(tmp_path):
    for i in range(30):
        place = tmp_path / "pictures" / ("red", "green")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:02d}.png").write_bytes(picture(i))
    assert whole(encoding(FolderSamples.find(tmp_path / "pictures", 7), tmp_path / "out")) == (30, 0)
    assert ShardSource.open(tmp_path / "out").labels.tolist() == [0] * 15 + [1] * 15
    rows = "".join(f"{('red', 'green')[i % 2]}/{i:02d}.png,{i}\n" for i in range(30))
    (tmp_path / "pictures" / "table.csv").write_text(f"file,beauty\n{rows}")
    whole(encoding(FolderSamples.find(tmp_path / "pictures", 7), tmp_path / "scores"))
    source = ShardSource.open(tmp_path / "scores")
    assert (source.head.name, source.labels[:, 0].tolist()) == ("regression", list(range(30)))


def test_aspect_buckets_are_shards_of_their_own(tmp_path):
    members = [(f"{i % 2}/{i}.png", picture(i, *((8, 8), (16, 8))[i % 4 == 3])) for i in range(24)]
    whole(encoding(tars(tar_of(tmp_path / "a.tar", members)), tmp_path / "out", sizes=((8, 8), (4, 8))))
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert index["shape"] == [3, 8, 8]
    assert [entry.get("shape") for entry in index["shards"]] == [[3, 4, 8], None] * 2
    assert [entry["count"] for entry in index["shards"]] == [3, 9, 3, 9]
    with pytest.raises(gc.GuidanceError, match=r"have several sizes \(\(3, 4, 8\) and more\): only training reads"):
        ShardSource.open(tmp_path / "out")


def test_copies_are_one_group_wherever_they_are(tmp_path):
    members = [(f"{i % 2}/{i}.png", picture((3, 4, 5)[i % 3])) for i in range(30)]
    whole(encoding(tars(tar_of(tmp_path / "a.tar", members), unit=4), tmp_path / "out"))
    groups = ShardSource.open(tmp_path / "out").groups
    assert groups.tolist() == groups[:3].tolist() * 10 and len(groups.unique()) == 3


# --- the same for any number of processes, workers and breaks ---------------------------------------------------------


def test_any_number_of_processes_and_workers_writes_the_same(tmp_path):
    files = [tar_of(tmp_path / f"{i}.tar", classes(count)) for i, count in enumerate((40, 2 * CHUNK, CHUNK + 1))]
    files[1].write_bytes(files[1].read_bytes().replace(picture(7), b"x" * len(picture(7))))
    whole(encoding(tars(*files, unit=20), tmp_path / "one"))
    for name, processes in (("two", 2), ("nine", 9)):
        whole(encoding(tars(*files, unit=20), tmp_path / name), processes)
        assert content(tmp_path / name) == content(tmp_path / "one")
    assert (tmp_path / "one" / "report.csv").read_text().startswith('file,reason\n1.tar/0007,"cannot be read as a pict')


def test_an_encoding_that_broke_off_goes_on(tar, tmp_path):
    whole(encoding(tars(tar), tmp_path / "one"))
    work = encoding(tars(tar), tmp_path / "two")
    work.records.agree(work.plan, write=True)
    steps = begun(work)
    next(steps), next(steps)
    (tmp_path / "two" / "shard-00002-0.safetensors").write_bytes(b"torn")  # as nothing here would leave it
    with pytest.raises(gc.GuidanceError, match="2 of 4 parts are missing .* the first of them 2: run the same command"):
        work.finish()
    (tmp_path / "two" / "shard-00000-0.safetensors").unlink()
    steps = begun(work)
    assert [step.count for step in steps] == [3, 3, 3]  # the one that is gone, and those that were never there
    work.finish()
    assert content(tmp_path / "two") == content(tmp_path / "one")


# --- what is refused --------------------------------------------------------------------------------------------------


def test_of_two_launches_the_newer_goes_on(tar, tmp_path):
    work = encoding(tars(tar), tmp_path / "out")
    work.records.agree(work.plan, write=True)
    first = begun(work)
    next(first)
    second = begun(work)
    next(second)
    with pytest.raises(gc.GuidanceError, match="Another launch of the same command is at work on .*: this one stops"):
        next(first)
    run_to_end(second)
    assert work.finish() == (40, 0)


def test_another_plan_is_refused(tar, tmp_path):
    whole(encoding(tars(tar), tmp_path / "out"))
    with pytest.raises(gc.GuidanceError, match="holds other work: batch was 8 and is 9. Make them the same"):
        whole(encoding(tars(tar), tmp_path / "out", batch=9))


def test_what_cannot_be_encoded_is_named(tmp_path):
    members = [
        ("a/0.png", picture(0)),
        ("a/1.png", b"broken"),
        ("a/2.txt", b"no image"),
        ("3.png", picture(3)),
        ("a/4.png", picture(4)),
        ("a/4.json", b"{"),
        ("a/5.png", picture(5)),
        ("a/5.json", b'{"label": [[]]}'),
        ("b/6.png", picture(6)),
        (".hidden.png", b""),
        ("README", b""),
    ]
    assert whole(encoding(tars(tar_of(tmp_path / "a.tar", members)), tmp_path / "out")) == (2, 5)
    said = (tmp_path / "out" / "report.csv").read_text().splitlines()
    for row, (name, why) in zip(
        said[1:],
        [
            ("a.tar/a/1", "cannot be read as a picture (it is not PNG"),
            ("a.tar/a/2", "has no image"),
            ("a.tar/3", "has no label (.cls, .txt, .json, or a folder)"),
            ("a.tar/a/4", "has labels that cannot be read (Expecting"),
            ("a.tar/a/5", "has labels that cannot be read ('.json' must have a 'label' or a list of 'labels')"),
        ],
        strict=True,
    ):
        assert row.startswith(f"{name},") and why in row


def test_a_torn_or_packed_tar_is_refused(tar, tmp_path):
    whole_tar = tar.read_bytes()
    (tmp_path / "torn.tar").write_bytes(whole_tar[: len(whole_tar) // 2 + 100])
    (tmp_path / "packed.tar").write_bytes(b"\x1f\x8b" + whole_tar)
    for name in ("torn.tar", "packed.tar"):
        with pytest.raises(gc.GuidanceError, match=f"'{name}' is not a whole, uncompressed tar .*gunzip, or fetch it"):
            scan_tar(tmp_path / name)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_tar_that_is_cut_or_gone_meanwhile_is_a_sentence(tar, tmp_path, workers):
    work = encoding(tars(tar), tmp_path / "out", workers=workers)
    work.records.agree(work.plan, write=True)
    tar.write_bytes(tar.read_bytes()[:30_000])
    with pytest.raises(gc.GuidanceError, match="'some.tar' (is not a whole, uncompressed tar|ends too early)"):
        run_to_end(begun(work))
    tar.unlink()
    with pytest.raises(gc.GuidanceError, match="The tar 'some.tar' cannot be read"):
        run_to_end(begun(work))


def test_a_full_disk_is_a_sentence_and_what_is_there_stays(tar, tmp_path):
    whole(encoding(tars(tar), tmp_path / "one"))
    try:
        with small_disk(tmp_path / "disk", 2**16) as disk:
            out = disk.path / "out"
            work = encoding(tars(tar), out)
            work.records.agree(work.plan, write=True)
            steps = begun(work)
            next(steps)
            disk.fill()
            with pytest.raises(gc.GuidanceError, match="could not be written: the disk is full. Free some space"):
                run_to_end(steps)
            disk.empty()
            whole(encoding(tars(tar), out))
            assert content(out) == content(tmp_path / "one")
    except NoDisk as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["none", "--vae", "pixels"], "no folder 'none'"),
        (["a.tar", "b", "--vae", "pixels"], "one folder, one CSV table, or any number of tars"),
        (["a.tar", "--vae", "pixels"], "The tar 'a.tar' cannot be read"),
        (["some.tar", "--vae", "none"], "no VAE 'none': give a folder in diffusers' layout"),
        (["some.tar", "--vae", "."], "holds no VAE in diffusers' layout"),
        (["some.tar", "--vae", "pixels", "--batch", "0"], "--batch must be at least 1, got 0"),
        (["some.tar", "--vae", "pixels", "--size-px", "0"], "--size-px must be from 1"),
        (["some.tar", "--vae", "pixels", "--workers", "-1"], "--workers must be from 0"),
        (["some.tar", "--vae", "emoji", "--size-px", "30"], "sides are multiples of 4 pixels, got 30 by 30"),
        (["some.tar", "--vae", "pixels", "--minimum", "21"], "at least 21 pictures: 'green' has 20, 'red' has 20"),
    ],
)
def test_the_command_refuses(tar, tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(["encode", *words, "--out", "out"]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out" / "index.json").exists()


def test_shards_of_other_makers_are_not_written_over(tar, tmp_path):
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(gc.GuidanceError, match="already holds latent shards"):
        whole(encoding(tars(tar), tmp_path))


# --- VAEs -------------------------------------------------------------------------------------------------------------


def kl(widths=(8, 16), groups=4, seed=0):
    """A small AutoencoderKL's encoder with random weights."""
    torch.manual_seed(seed)
    return KlEncoder(list(widths), 2, 3, True, groups)


def renamed(weights):
    """Under diffusers' names."""
    pairs = [
        ("encoder.down.0.downsample.", "encoder.down_blocks.0.downsamplers.0."),
        ("encoder.mid.block_1.", "encoder.mid_block.resnets.0."),
        ("encoder.mid.block_2.", "encoder.mid_block.resnets.1."),
        ("mid.attn_1.norm.", "mid_block.attentions.0.group_norm."),
        ("mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0."),
        *((f"mid.attn_1.{part}.", f"mid_block.attentions.0.to_{part}.") for part in "qkv"),
        *((f"down.{i}.block.{j}.", f"down_blocks.{i}.resnets.{j}.") for i in range(2) for j in range(2)),
        ("nin_shortcut", "conv_shortcut"),
        ("encoder.norm_out", "encoder.conv_norm_out"),
    ]
    found = {}
    for name, tensor in weights.items():
        for original, other in pairs:
            name = name.replace(original, other)
        found[name] = tensor[:, :, 0, 0] if ".to_" in name and tensor.ndim == 4 else tensor
    return found


def folder_of(place, network, **config):
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps({"norm_num_groups": 4, **config}))
    tensors = {name: tensor.contiguous() for name, tensor in renamed(network.state_dict()).items()}
    save_file(tensors, place / "diffusion_pytorch_model.safetensors")
    return str(place.parent)


def test_a_vae_in_diffusers_layout_and_in_a_file(tmp_path, randn, monkeypatch):
    monkeypatch.setattr("guidance_core.encode.vae.weights.GROUPS", 4)
    network = kl()
    images = randn(2, 3, 16, 24, dtype=torch.float32).sigmoid()
    encoder = encoder_of(folder_of(tmp_path / "a" / "vae", network, scaling_factor=0.5, shift_factor=0.25))
    assert (encoder.multiple, encoder.scale, encoder.shift) == (2, 0.5, 0.25)
    with torch.no_grad():
        assert torch.allclose(encoder(images), (network(2 * images - 1) - 0.25) * 0.5, atol=1e-6)
    prefixed = {f"first_stage_model.{name}": tensor for name, tensor in network.state_dict().items()}
    save_file(prefixed, tmp_path / "vae.safetensors")
    monkeypatch.setitem(KNOWN, "mine", LatentScale(0.5, 0.25, 3))
    of_file = encoder_of(str(tmp_path / "vae.safetensors"), "mine")
    assert torch.equal(of_file(images), encoder(images)) and of_file.latent_space == "mine"
    assert encoder_of(folder_of(tmp_path / "b" / "vae", kl(seed=1))).identity != encoder.identity
    with pytest.raises(gc.GuidanceError, match="does not say the scale .*--latent-space sdxl"):
        encoder_of(str(tmp_path / "vae.safetensors"))
    with pytest.raises(gc.GuidanceError, match="latents of 3 channels, and 'flux' 16"):
        encoder_of(str(tmp_path / "vae.safetensors"), "flux")


@pytest.mark.slow
def test_vaes_are_those_of_diffusers(tmp_path):
    """In a process of its own: diffusers takes long to import, and warns of much."""
    code = f"""
import sys
sys.modules["transformers"] = sys.modules["torchvision"] = None  # not needed, and slow to import
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from guidance_core.encode.vae import encoder_of
torch.manual_seed(0)
kinds = {{"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}}
images = torch.rand(2, 3, 32, 40)
kl = AutoencoderKL(**kinds, block_out_channels=[8, 16, 16], norm_num_groups=4, latent_channels=3, layers_per_block=2)
kl.save_pretrained({str(tmp_path / "kl" / "vae")!r})
tiny = AutoencoderTiny(latent_channels=4)
tiny.save_pretrained({str(tmp_path / "tiny")!r})
with torch.no_grad():
    expected = kl.encode(2 * images - 1).latent_dist.mode() * kl.config.scaling_factor
    print(float((encoder_of({str(tmp_path / "kl")!r})(images) - expected).abs().max()))
    expected = tiny.encode(2 * images - 1).latents
    print(float((encoder_of({str(tmp_path / "tiny")!r})(images) - expected).abs().max()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(float(line) < 1e-5 for line in done.stdout.split())


def test_taesd_in_a_file(tmp_path, randn):
    torch.manual_seed(0)
    network = taesd_encoder(4)
    images = randn(1, 3, 16, 16, dtype=torch.float32).sigmoid()
    for prefix in ("", "encoder.layers."):
        save_file({prefix + name: value for name, value in network.state_dict().items()}, tmp_path / "a.safetensors")
        encoder = encoder_of(str(tmp_path / "a.safetensors"), "sd15")
        assert (encoder.multiple, encoder.scale, encoder.latent_space) == (8, 1.0, "sd15")
        with torch.no_grad():
            assert torch.equal(encoder(images), network(images))
    assert sum(p.numel() for p in network.parameters()) == 1222532  # as published


def test_what_is_no_vae_is_refused(tmp_path):
    place = Path(folder_of(tmp_path / "a" / "vae", kl())) / "vae"
    tensors = load_file(place / WEIGHTS)
    tensors.pop("encoder.conv_out.bias")
    save_file(tensors, place / WEIGHTS)
    save_file({"x": torch.zeros(1)}, tmp_path / "none.safetensors")
    for name, sentence in (("a", "does not hold a whole VAE"), ("none.safetensors", "no encoder that is known here")):
        with pytest.raises(gc.GuidanceError, match=sentence):
            encoder_of(str(tmp_path / name))
    for text in ("{", "[]", '{"scaling_factor": "x"}'):
        (place / "config.json").write_text(text)
        with pytest.raises(gc.GuidanceError, match="config.json' cannot be read"):
            encoder_of(str(tmp_path / "a"))


def test_what_no_encoder_may_give(tar, tmp_path):
    work = encoding(tars(tar), tmp_path / "out", dtype=torch.float16)
    object.__setattr__(work.encoder, "scale", np.inf)
    with pytest.raises(gc.GuidanceError, match="latent of 'some.tar/0000' is not finite in torch.float16: choose"):
        whole(work)


def test_what_one_process_meets_by_itself_is_said_by_it(capsys, monkeypatch):
    """Of several processes the first speaks for all, but for what only another one met."""
    monkeypatch.setenv("RANK", "1")
    for error, said in ((gc.GuidanceError("a"), ""), (OwnError("The disk is full."), "The disk is full.\n")):

        def run(arguments, error=error):
            raise error

        monkeypatch.setattr("guidance_core.commands.compare.run", run)
        assert main(["compare", "a", "b"]) == 2
        assert capsys.readouterr().err == said
