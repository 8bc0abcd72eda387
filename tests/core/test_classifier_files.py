"""Classifier files: what is saved comes back bit for bit, and every bad file is refused in a sentence."""

import base64
import dataclasses
import errno
import json
import pickle
import struct
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import guidance_core as gc
from guidance_core import files
from guidance_core.classifier import network, noisy
from guidance_core.classifier.card import Record
from guidance_core.classifier.heads import heads
from guidance_core.classifier.latent_encoder import LatentEncoder
from guidance_core.classifier.measurements import Bin, Suggestion
from guidance_core.classifier.metadata import to_metadata
from guidance_core.classifier.noisy import read_card

PARAMETERS = {
    "channels": 2, "classes": 3, "width": 8, "multipliers": [1, 2], "depth": 1, "embedding": 16,
}  # fmt: skip
FORMAT = "guidance-kit.noisy-classifier"


def png(width, height):
    """A grey picture, whole and small whatever its size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((width + 1) * height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture
def classifier():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = LatentEncoder(**PARAMETERS)
        for parameter in network.parameters():  # some layers begin at zero
            torch.nn.init.normal_(parameter, std=0.3)
    return gc.NoisyClassifier(
        network.eval().requires_grad_(False),
        ["cat", "dog", "Ünïcode, (odd)"],
        "sd15",
        (-8.5, 7.25),
        parameters=PARAMETERS,
        info={"accuracy": "0.9"},
    )


@pytest.fixture
def file(classifier, tmp_path):
    classifier.save(tmp_path / "cats.safetensors")
    return tmp_path / "cats.safetensors"


def rewritten(file, tensors=None, drop=(), **metadata):
    """The same file with other metadata or tensors."""
    old, weights = files.read_tensors(file, "noisy classifier", FORMAT)
    new = {key: value for key, value in (old | metadata).items() if key not in drop}
    save_file(weights if tensors is None else tensors(weights), file, metadata=new)
    return file


def test_a_round_trip_is_bit_equal(classifier, file, randn):
    loaded = gc.NoisyClassifier.load(file)
    for word in (
        "labels",
        "latent_space",
        "log_snr_range",
        "architecture",
        "parameters",
        "info",
        "channels",
        "head",
        "record",
    ):
        assert getattr(loaded, word) == getattr(classifier, word), word
    before, after = classifier.network.state_dict(), loaded.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    x = randn(3, 2, 8, 8, dtype=torch.float32)
    assert torch.equal(loaded(x, 1.5), classifier(x, 1.5))
    assert torch.equal(loaded(x[:, :, None], 0.4, gc.FLOW), classifier(x[:, :, None], 0.4, gc.FLOW))
    assert not loaded.network.training
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())


@pytest.mark.parametrize("head", ["single", "multi", "regression"])
def test_a_head_is_kept(head, classifier, tmp_path):
    dataclasses.replace(classifier, head=head).save(tmp_path / "head.safetensors")
    assert gc.NoisyClassifier.load(tmp_path / "head.safetensors").head.name == head


def test_a_file_without_a_head_is_single(file):
    assert gc.NoisyClassifier.load(rewritten(file, drop=["head"])).head.name == "single"


def test_an_unknown_head(classifier, file):
    with pytest.raises(gc.GuidanceError, match="no classifier head 'many'; choose one of single, multi, regression"):
        dataclasses.replace(classifier, head="many")
    refused(rewritten(file, head="many"), "wrong description: 'head' must be one of single, multi, regression")


RECORDS = {
    "path": "flow",
    "latent_scale": 0.18215,
    "latent_shift": 0.0,
    "data_hash": "5f" * 16,
    "training": {"steps": 2000, "learning_rate": 1e-3, "augment": True, "note": "zwei\nZeilen"},
    "bins": (Bin(-8.5, -1.0, 0.4, 0.02, 1.01, 1.2), Bin(-1.0, 7.25, 0.99, 0.004, 0.1)),
    "chance": 1 / 3,
    "chance_loss": 1.0986,
    "confusion": ((5, 0, 1), (0, 6, 0), (2, 0, 4)),
    "temperatures": ((-5.0, 1.2), (3.0, 0.9)),
    "prior": (0.01, 0.01, 0.98),
    "suggestion": Suggestion(1.5, (-8.5, 7.25), "Because."),
    "licence": "CC-BY 4.0",
    "author": "The Digits Company",
    "preview": png(3, 2),
    "created_with": "Another Kit 7",
}


def test_a_whole_record_is_kept(classifier, tmp_path):
    assert RECORDS.keys() == vars(Record()).keys()
    classifier.recording(**RECORDS).save(tmp_path / "record.safetensors")
    assert gc.NoisyClassifier.load(tmp_path / "record.safetensors").record == Record(**RECORDS)


@pytest.mark.parametrize("field", RECORDS)
def test_each_field_of_a_record_is_kept_by_itself(field, classifier, tmp_path):
    classifier.recording(**{field: RECORDS[field]}).save(tmp_path / "one.safetensors")
    if field == "temperatures":  # they do change the answers
        assert gc.NoisyClassifier.load(tmp_path / "one.safetensors").record.temperatures == RECORDS[field]
    assert read_card(tmp_path / "one.safetensors").record == Record(**{field: RECORDS[field]})


def test_a_suggestion_not_to_guide_is_kept(classifier, tmp_path):
    none = Suggestion(0.0, None, "At chance.")
    classifier.recording(suggestion=none).save(tmp_path / "none.safetensors")
    assert read_card(tmp_path / "none.safetensors").record.suggestion == none


def test_a_card_is_read_without_the_network(classifier, file, monkeypatch):
    monkeypatch.setitem(network.ARCHITECTURES, "latent_encoder", None)
    assert read_card(file) == classifier.card


def test_the_format_is_documented(classifier):
    text = (Path(gc.__file__).parents[1] / "docs" / "noisy-classifier-format.md").read_text(encoding="utf-8")
    metadata = to_metadata(classifier.recording(**RECORDS).card)
    measured = json.loads(metadata["bins"])[0].keys() | json.loads(metadata["suggestion"]).keys()
    assert metadata["version"] == "2" and text.startswith("# The file format of noisy classifiers, version 2")
    for name in metadata.keys() | measured | network.ARCHITECTURES.keys() | heads().keys() | set(network.DTYPES):
        assert f"`{name}`" in text or f" {name}" in text, name


WRONG = {
    "path": ["VPX", "\x1b"],
    "latent_scale": ["", "NaN", "1e999", '"1"', "true", "null"],
    "data_hash": ["x" * 201, "two\nlines"],
    "training": ["[]", '{"a": null}', '{"a": [1]}', '{"a": NaN}', '{"a": 1e999}', json.dumps({"a": "\x07"})],
    "bins": ["{}", "[1]", "[{}]", "[null]", "Infinity"],
    "chance": ["2", "-1", "[]"],
    "chance_loss": ["-1", "{}"],
    "confusion": ["[]", "[[1, 2, 3]]", "[[1, 2], [3, -4]]", "[[1.5]]", "[[1]]", "[[true]]", "null"],
    "prior": ["[0.5, 0.5]", "[0.5, 0.5, 0.5]", "[1, 0, 0]", "[NaN, 0.5, 0.5]", "{}", "[true]", '["1", 0, 0]'],
    "temperatures": ["[[0, 0]]", "[[0, 1], [0, 1]]", "[[1, 1], [0, 1]]", "[[0]]", "[0]", "[[0, 1e9]]", "{}"],
    "suggestion": ["[]", "{}", '{"scale": 1}', '{"scale": 1, "reason": "", "log_snr_range": [2, 1]}'],
    "licence": ["\x1b[2J", "x" * 100_001],
    "author": ["a\nb"],
    "preview": ["%", "aGVsbG8=", "A" * 200_000, base64.b64encode(png(513, 1)).decode()],
    "created_with": ["\x00"],
    "labels": ['["a\\u001b", "b", "c"]', '["\\ud800", "b", "c"]', '["a", 2, "c"]'],
    "parameters": ['{"channels": NaN}', '{"channels": {}}', '{"depth": 1000000}', '{"width": [[1]]}'],
    "info": ["[]", '{"a": 1}'],
    "log_snr_range": ["[-1e9, 1e9]", "[0, 1, 2]", "[NaN, 1]"],
}


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, texts in WRONG.items() for text in texts])
def test_each_field_is_refused_by_name(key, text, file):
    counted = {"confusion": "1 rows of confusion", "prior": "2 probabilities of a prior"}.get(key, "no such count")
    sentence = f"'cats.safetensors' has a wrong description: ('{key}' |3 labels for {counted})"
    with pytest.raises(gc.GuidanceError, match=sentence):
        read_card(rewritten(file, **{key: text}))


def test_keys_of_the_future_are_ignored(classifier, file):
    assert read_card(rewritten(file, mood="happy", signature="{")) == classifier.card


@pytest.mark.parametrize("key", ["preview", "licence", "training"])
def test_what_could_not_be_loaded_is_not_saved(key, classifier, tmp_path):
    wrong = {"preview": b"GIF89a", "licence": "\x1b[2J", "training": {"a": float("nan")}}[key]
    with pytest.raises(gc.GuidanceError, match=f"'bad.safetensors' has a wrong description: '{key}'"):
        classifier.recording(**{key: wrong}).save(tmp_path / "bad.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_version_1_is_read(classifier, file, randn):
    old = rewritten(file, drop=["head", "created_with"], version="1")
    assert files.read_header(old, noisy.KIND, FORMAT).metadata.keys() == {
        "format", "version", "architecture", "parameters", "labels", "latent_space", "log_snr_range", "info"
    }  # fmt: skip
    loaded = gc.NoisyClassifier.load(old)
    assert loaded.card == dataclasses.replace(classifier, head="single", record=Record(created_with="")).card
    x = randn(2, 2, 8, 8, dtype=torch.float32)
    assert torch.equal(loaded(x, 1.0), classifier(x, 1.0))


def test_temperatures_divide_the_logits(classifier, randn):
    x = randn(3, 2, 8, 8, dtype=torch.float32)
    tempered = classifier.recording(temperatures=((-2.0, 0.5), (0.0, 1.0), (2.0, 2.0)))
    for log_snr, temperature in ((-5.0, 0.5), (-2.0, 0.5), (-1.0, 0.5**0.5), (0.0, 1.0), (1.0, 2**0.5), (4.0, 2.0)):
        for path in (gc.VE, gc.VP, gc.FLOW):
            sigma = path.sigma_at(log_snr).float()
            torch.testing.assert_close(tempered(x, sigma, path) * temperature, classifier(x, sigma, path))
    want, _ = gc.log_prob_grad(lambda *a: classifier(*a) / 2, x, 0.1, torch.tensor([0, 1, 2]))
    got, _ = gc.log_prob_grad(tempered, x, 0.1, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(got, want)


def test_temperatures_are_looked_up_for_each_sample(classifier, randn):
    x, sigma = randn(2, 2, 8, 8, dtype=torch.float32), torch.tensor([0.1, 10.0])
    tempered = classifier.recording(temperatures=((-1.0, 0.5), (1.0, 2.0)))
    torch.testing.assert_close(tempered(x, sigma), classifier(x, sigma) / torch.tensor([[2.0], [0.5]]))


def test_paths_may_be_text(classifier, tmp_path):
    classifier.save(f"{tmp_path}/text.safetensors")
    assert gc.NoisyClassifier.load(f"{tmp_path}/text.safetensors").labels == classifier.labels


def test_loads_in_inference_mode_and_gives_gradients_there(file, randn):
    x, labels = randn(2, 2, 8, 8, dtype=torch.float32), torch.tensor([0, 1])
    want, _ = gc.log_prob_grad(gc.NoisyClassifier.load(file), x, 1.0, labels)
    assert float(want.abs().max()) > 0
    with torch.inference_mode():
        got, _ = gc.log_prob_grad(gc.NoisyClassifier.load(file), x, 1.0, labels)
    assert torch.equal(got, want)


def test_a_failed_save_leaves_the_old_file(classifier, file, monkeypatch):
    old = file.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(gc.GuidanceError, match="the disk is full"):
        classifier.save(file)
    assert file.read_bytes() == old
    assert list(file.parent.iterdir()) == [file]


def test_a_save_replaces_the_old_file_and_leaves_nothing_else(classifier, file):
    file.write_bytes(b"old")
    classifier.save(file)
    assert gc.NoisyClassifier.load(file).labels == classifier.labels
    assert list(file.parent.iterdir()) == [file]


def test_a_network_that_no_file_can_rebuild_is_not_saved(tmp_path):
    own = gc.NoisyClassifier(torch.nn.Linear(2, 2), ["a", "b"])
    with pytest.raises(gc.GuidanceError, match="A Linear cannot be saved as 'latent_encoder'"):
        own.save(tmp_path / "own.safetensors")
    assert list(tmp_path.iterdir()) == []


def refused(file, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence):
        gc.NoisyClassifier.load(file)


def test_a_missing_file(tmp_path):
    refused(tmp_path / "none.safetensors", "There is no noisy classifier file 'none.safetensors' in ")
    refused(tmp_path, "is a folder: name the noisy classifier file in it")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file was executed",))


@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_a_pickle_is_never_executed(write, tmp_path):
    with open(tmp_path / "bomb.pt", "wb") as file:
        write(Bomb(), file)
    refused(tmp_path / "bomb.pt", "'bomb.pt' is not a whole safetensors file.*because they can run code")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file(share, file):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    refused(file, "'cats.safetensors' is not a whole safetensors file")


def test_another_safetensors_file(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "lora.safetensors")
    refused(tmp_path / "lora.safetensors", "is a safetensors file but not a noisy classifier")
    save_file({"weight": torch.zeros(2)}, tmp_path / "lora.safetensors", metadata={"format": "pt"})
    refused(tmp_path / "lora.safetensors", "is a safetensors file but not a noisy classifier")


def test_a_newer_version(file):
    refused(rewritten(file, version="3"), "has format version 3, this Guidance Kit reads versions 1 to 2: update it")
    refused(rewritten(file, drop=["version"]), "has format version none, this")


def test_an_unknown_architecture(file):
    refused(rewritten(file, architecture="vit"), "unknown architecture 'vit': update Guidance Kit")


@pytest.mark.parametrize("key", ["parameters", "labels", "log_snr_range"])
@pytest.mark.parametrize(
    "text", [None, "", "{", "null", "7", '"text"', "[]", "[1]", "{}", '{"a": 1}', "[3, 1]", "[[]]"]
)
def test_damaged_metadata(key, text, file):
    changed = rewritten(file, drop=[key]) if text is None else rewritten(file, **{key: text})
    refused(
        changed, f"'cats.safetensors' (has a wrong description: '{key}'|is damaged: its parameters build no network)"
    )


@pytest.mark.parametrize(
    "change", [{"width": 16}, {"multipliers": []}, {"channels": "two"}, {"depth": "many"}, {"extra": 1}]
)
def test_parameters_that_do_not_fit_the_weights(change, file):
    refused(rewritten(file, parameters=json.dumps(PARAMETERS | change)), "is damaged")


def test_labels_that_do_not_fit_the_classes(file):
    refused(rewritten(file, labels='["cat", "dog"]'), "wrong description: 2 labels for 3 classes")


def test_a_log_snr_range_that_is_upside_down(file):
    refused(rewritten(file, log_snr_range="[5.0, -5.0]"), "'log_snr_range' must be a range that rises")


def test_weights_that_are_missing_or_too_many(file):
    refused(rewritten(file, lambda weights: dict(list(weights.items())[1:])), "is damaged")
    refused(rewritten(file, lambda weights: {"extra": torch.zeros(1)}), "is damaged")


def test_latents_of_another_model_are_refused(file, randn):
    with pytest.raises(gc.GuidanceError, match=r"2-channel latents and got 16 channels.*\(this one: sd15\)"):
        gc.NoisyClassifier.load(file)(randn(1, 16, 8, 8), 1.0)
