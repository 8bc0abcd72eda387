"""Shards: what was written comes back, little is read at a time, and every bad folder is refused in a sentence."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import guidance_core as gc
from guidance_core.data.shard_writer import write_shards
from guidance_core.data.shards import ShardSource
from guidance_core.data.sources import TensorSource
from guidance_core.progress import Progress, run_to_end

NAMES = ["cat", "dog", "ox"]
LABELS = {
    "single": [0, 1, 2, 1, 0, 2, 2],
    "multi": [[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1], [0, 0, 1]],
    "regression": [[i / 4, -i, 100 * i] for i in range(7)],
}


def latents_of(randn, count=7, shape=(2, 4, 6), dtype=torch.float16):
    return randn(count, *shape, dtype=dtype)


def written(folder, latents, labels=LABELS["single"], rows=3, names=NAMES, **options):
    """Shards of `rows` latents each."""
    options = {"dtype": latents.dtype, "shard_bytes": rows * latents[0].nbytes, **options}
    return list(write_shards(zip(latents, labels, strict=True), folder, names, **options))


@pytest.fixture
def folder(tmp_path, randn):
    written(tmp_path / "shards", latents_of(randn), latent_space="sd15")
    return tmp_path / "shards"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(2, 4, 6), (3, 2, 4, 4)])
def test_a_round_trip_is_bit_equal(tmp_path, randn, dtype, shape):
    latents = latents_of(randn, shape=shape, dtype=dtype)
    written(tmp_path, latents)
    source = ShardSource.open(tmp_path)
    assert (len(source), source.shape, [shard.count for shard in source.shards]) == (7, shape, [3, 3, 1])
    wanted = torch.tensor([6, 0, 3, 3, 2, 5, 0])  # over all shards, out of order, some twice
    assert source.load(wanted).dtype == torch.float32
    assert torch.equal(source.load(wanted), latents[wanted].float())
    assert torch.equal(source.load(torch.tensor([4])), latents[4:5].float())


@pytest.mark.parametrize("head", ["single", "multi", "regression"])
def test_labels_of_every_head(tmp_path, randn, head):
    written(tmp_path, latents_of(randn), LABELS[head], head=head, latent_space="sd15")
    source = ShardSource.open(tmp_path)
    assert (source.head.name, source.label_names, source.latent_space) == (head, tuple(NAMES), "sd15")
    assert torch.equal(source.labels, torch.tensor(LABELS[head], dtype=source.labels.dtype))
    assert source.labels.is_floating_point() == (head != "single")


def test_progress_and_the_index_comes_last(tmp_path, randn):
    stream = write_shards(zip(latents_of(randn), LABELS["single"], strict=True), tmp_path, NAMES, shard_bytes=1)
    for expected in range(1, 8):
        assert next(stream) == Progress(expected, None)
        assert len(list(tmp_path.glob("*.safetensors"))) == expected and not (tmp_path / "index.json").exists()
    assert run_to_end(stream) == 7 and (tmp_path / "index.json").exists()
    assert not list(tmp_path.glob("*.part"))


def test_a_run_that_broke_off_is_begun_again(tmp_path, randn):
    latents = latents_of(randn)
    for step in write_shards(zip(latents, LABELS["single"], strict=True), tmp_path, NAMES, shard_bytes=1):
        if step.done == 2:
            break
    with pytest.raises(gc.GuidanceError, match="no index.json"):
        ShardSource.open(tmp_path)
    written(tmp_path, latents.flip(0), rows=3)
    assert torch.equal(ShardSource.open(tmp_path).load(torch.arange(7)), latents.flip(0).float())


def test_identical_latents_are_one_group(tmp_path, randn):
    latents = latents_of(randn)[[0, 1, 2, 0, 4, 5, 1]]
    written(tmp_path, latents)
    assert ShardSource.open(tmp_path).groups.tolist() == [0, 1, 2, 0, 4, 5, 1]


def test_a_buffer_may_be_used_again(tmp_path):
    def examples():
        buffer = torch.zeros(1, 2, 2)
        for i in range(6):
            yield buffer.fill_(i), i % 3

    list(write_shards(examples(), tmp_path, NAMES, dtype=torch.float32))
    assert ShardSource.open(tmp_path).load(torch.arange(6))[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_shards_and_memory_train_alike(tmp_path, randn):
    """The same examples in the same order give the same classifier, bit for bit."""
    latents = latents_of(randn, 24, (1, 8, 8), torch.float32)
    labels = torch.arange(24) % 3
    written(tmp_path, latents, labels.tolist(), rows=5)
    settings = {"steps": 3, "batch": 8, "hold_out": 0.25}
    sources = ShardSource.open(tmp_path), TensorSource(latents, labels)
    ends = [list(gc.train_classifier(source, label_names=NAMES, **settings))[-1] for source in sources]
    assert ends[0].loss == ends[1].loss
    weights = [end.classifier.network.state_dict() for end in ends]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_fingerprint_changes_with_latents_labels_and_names(tmp_path, randn):
    latents, labels = latents_of(randn), LABELS["single"]
    written(tmp_path / "a", latents, labels)
    written(tmp_path / "same", latents, labels)
    written(tmp_path / "labels", latents, labels[::-1])
    written(tmp_path / "names", latents, labels, names=["cat", "dog", "cow"])
    latents[3, 0, 0, 0] += 1
    written(tmp_path / "latents", latents, labels)
    folders = ("a", "same", "labels", "names", "latents")
    first, same, *others = (ShardSource.open(tmp_path / name).fingerprint() for name in folders)
    assert first == same and len({first, *others}) == 4


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"head": "many"}, "no classifier head 'many'"),
        ({"dtype": torch.float64}, "not torch.float64"),
        ({"labels": [0, 1, 3]}, "from 0 to 2; latent 2 has 3"),
        ({"labels": [0, -1, 0]}, "latent 1 has -1"),
        ({"labels": [0, 0.5, 0]}, "'single' needs one whole number.*latent 1 has 0.5"),
        ({"labels": [[0], [1], [1]]}, r"latent 0 has \[0\]"),
        ({"labels": [0, 1, 1], "head": "multi"}, "'multi' needs 3 numbers.*latent 0 has 0"),
        ({"latents": []}, "no examples"),
        ({"latents": [torch.zeros(2, 4, 4), torch.zeros(2, 4, 5), torch.zeros(1)]}, r"latent 1 is \[2, 4, 5\]"),
        ({"latents": [torch.zeros(4, 4)] * 3}, r"latent 0 is \[4, 4\]"),
        ({"latents": [torch.full((1, 2, 2), 1e5)] * 3}, "not finite in torch.float16"),
    ],
)
def test_writing_refuses(tmp_path, change, sentence):
    arguments = {"latents": [torch.zeros(1, 2, 2)] * 3, "labels": [0, 1, 2], "head": "single", "dtype": torch.float16}
    arguments |= change
    examples = zip(arguments.pop("latents"), arguments.pop("labels"), strict=False)
    with pytest.raises(gc.GuidanceError, match=sentence):
        list(write_shards(examples, tmp_path, NAMES, **arguments))
    assert not (tmp_path / "index.json").exists()


def test_shards_are_not_written_over(folder, randn):
    with pytest.raises(gc.GuidanceError, match="already holds latent shards"):
        written(folder, latents_of(randn))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "other"}, "does not say 'format'"),
        ({"version": 2}, "version is 2"),
        ({"labels": [1, 2, 3]}, "'labels' must be"),
        ({"labels": ["a", "b"]}, "labels from 0 to 2.*names for 0 to 1"),
        ({"labels": []}, "'labels' must be"),
        ({"head": "many"}, "'head' must be one of"),
        ({"head": ["single"]}, "'head' must be one of"),
        ({"head": "multi"}, r"should have 'labels' F32 \[3, 3\], and has I64 \[3\]"),
        ({"latent_space": None}, "'latent_space' text"),
        ({"shape": [2, 4]}, "'shape' must be"),
        ({"shape": [2, 4, -6]}, "'shape' must be"),
        ({"shape": [2, 4, 7]}, r"should have 'latents' .*F16 \[3, 2, 4, 7\].*, and has F16 \[3, 2, 4, 6\]"),
        ({"shards": []}, "'shards' must be"),
        ({"shards": [{"file": "../a.safetensors", "count": 3}]}, "'../a.safetensors' is not the plain name"),
        ({"shards": [{"file": "/a.safetensors", "count": 3}]}, "is not the plain name"),
        ({"shards": [{"file": "shard-00000.safetensors", "count": 0}]}, "'count' of 'shard-00000.safetensors' must"),
        ({"shards": [{"file": "shard-00000.safetensors", "count": 2}]}, r"F16 \[2, 2, 4, 6\].*has F16 \[3, 2, 4, 6\]"),
        ({"shards": [{"file": "gone.safetensors", "count": 2}]}, "no latent shard file 'gone.safetensors'"),
    ],
)
def test_a_bad_index_is_refused(folder, change, sentence):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | change))
    with pytest.raises(gc.GuidanceError, match=sentence):
        ShardSource.open(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\udcff"])
def test_an_index_that_is_no_index(folder, text):
    (folder / "index.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(gc.GuidanceError, match="index of the latent shards in .* is damaged"):
        ShardSource.open(folder)


def test_an_index_that_is_too_large_is_not_read(folder, monkeypatch):
    monkeypatch.setattr("guidance_core.data.shards.MAX_INDEX", 2**20)
    (folder / "index.json").write_bytes((folder / "index.json").read_bytes() + b" " * 2**20)
    with pytest.raises(gc.GuidanceError, match="larger than 1 MiB"):
        ShardSource.open(folder)


def test_a_folder_without_shards(tmp_path):
    with pytest.raises(gc.GuidanceError, match="no latent shards in"):
        ShardSource.open(tmp_path)


def rewritten(file, **tensors):
    kept = {name: tensor for name, tensor in (load_file(file) | tensors).items() if tensor is not None}
    save_file(kept, file, metadata={"format": "guidance-kit.latent-shards"})


def test_shards_that_do_not_fit_are_refused(folder):
    shard = folder / "shard-00001.safetensors"
    whole = shard.read_bytes()
    for change, sentence in [
        ({"latents": None}, "'latents' .*and has none"),
        ({"labels": None}, "'labels' .*and has none"),
        ({"groups": torch.zeros(2, dtype=torch.long)}, r"'groups' I64 \[3\], and has I64 \[2\]"),
        ({"latents": torch.zeros(3, 2, 4, 6)}, "differ in precision .F16, F32."),
        ({"latents": torch.zeros(3, 2, 4, 6, dtype=torch.float64)}, "and has F64"),
        ({"labels": torch.tensor([0, 5, 1])}, "labels from 0 to 5"),
        ({"labels": torch.tensor([0, -1, 1])}, "labels from -1 to 2"),
    ]:
        rewritten(shard, **change)
        with pytest.raises(gc.GuidanceError, match=sentence):
            ShardSource.open(folder)
        shard.write_bytes(whole)
    shard.write_bytes(whole[:-5])
    with pytest.raises(gc.GuidanceError, match="not a whole safetensors file"):
        ShardSource.open(folder)


def test_shards_made_elsewhere_need_no_groups_and_no_hash(folder):
    rewritten(folder / "shard-00001.safetensors", groups=None)
    index = json.loads((folder / "index.json").read_text())
    for entry in index["shards"]:
        del entry["hash"]
    (folder / "index.json").write_text(json.dumps(index))
    source = ShardSource.open(folder)
    assert source.groups.tolist() == list(range(7))
    rewritten(folder / "shard-00001.safetensors", labels=torch.tensor([0, 0, 0]))
    assert ShardSource.open(folder).fingerprint() != source.fingerprint()


def test_a_shard_that_is_cut_or_gone_while_in_use(folder):
    source = ShardSource.open(folder)
    shard = folder / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-60])
    with pytest.raises(gc.GuidanceError, match="'shard-00001.safetensors' can no longer be read .it ends too early"):
        source.load(torch.arange(7))
    shard.unlink()
    with pytest.raises(gc.GuidanceError, match="can no longer be read"):
        source.load(torch.tensor([4]))
    assert source.load(torch.tensor([0, 6])).shape == (2, 2, 4, 6)


# --- memory and reading -----------------------------------------------------------------------------------------------

ROW, BATCH = 4 * 64 * 64 * 2, 16  # bytes of a latent; latents of a step
MEASURE = f"""
import sys
import torch
torch.set_num_threads(1)
import guidance_core as gc
from guidance_core.data.shards import ShardSource

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

def bytes_read():
    with open("/proc/self/io") as figures:
        return int(figures.readline().removeprefix("rchar: "))

names = ["cat", "dog", "ox"]
list(gc.train_classifier(torch.randn(6, 4, 64, 64), [0, 1, 2, 0, 1, 2], names, steps=2, batch={BATCH}))
before = peak()
source = ShardSource.open(sys.argv[1])
began = bytes_read()
for step in gc.train_classifier(source, label_names=names, steps=int(sys.argv[2]), batch={BATCH}):
    pass
trained = bytes_read()
for some in torch.randperm(len(source)).split(64):
    source.load(some)
print(before, peak(), trained - began, bytes_read() - trained)
"""


def measured(folder, megabytes, steps):
    """(peak MB before the shards, peak MB once all of them were read); reads what is asked for, once, and no more."""
    generator = torch.Generator().manual_seed(0)
    count = megabytes * 2**20 // ROW
    examples = ((torch.randn(4, 64, 64, generator=generator), i % 3) for i in range(count))
    *_, last = write_shards(examples, folder, NAMES, latent_space="made up")
    assert last.done == count
    assert sum(file.stat().st_size for file in folder.iterdir()) >= megabytes * 2**20
    root = Path(gc.__file__).parents[1]
    command = [sys.executable, "-c", MEASURE, str(folder), str(steps)]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    before, after, trained, read = map(float, done.stdout.split())
    assert 0 <= trained - steps * BATCH * ROW < 2**20
    assert 0 <= read - count * ROW < 2**20
    return before, after


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_training_takes_no_memory_for_the_latents_on_disk(tmp_path):
    before, after = measured(tmp_path, megabytes=64, steps=5)
    assert after - before < 40


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_two_gigabytes_train_in_less_than_one(tmp_path):
    before, after = measured(tmp_path, megabytes=2048, steps=100)
    assert after < 1000
    assert after - before < 150
