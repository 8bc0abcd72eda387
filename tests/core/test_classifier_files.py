"""Classifier files: what is saved comes back bit for bit, and every bad file is refused in a sentence."""

import dataclasses
import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

import guidance_core as gc
from guidance_core import files
from guidance_core.classifier.network import LatentEncoder

PARAMETERS = {
    "channels": 2, "classes": 3, "width": 8, "multipliers": [1, 2], "depth": 1, "embedding": 16,
}  # fmt: skip
FORMAT = "guidance-kit.noisy-classifier"


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
    for word in ("labels", "latent_space", "log_snr_range", "architecture", "parameters", "info", "channels", "head"):
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
    assert gc.NoisyClassifier.load(tmp_path / "head.safetensors").head == head


def test_a_file_without_a_head_is_single(file):
    assert gc.NoisyClassifier.load(rewritten(file, drop=["head"])).head == "single"


def test_an_unknown_head(classifier, file):
    with pytest.raises(gc.GuidanceError, match="no classifier head 'many'; choose one of single, multi, regression"):
        dataclasses.replace(classifier, head="many")
    refused(rewritten(file, head="many"), "no classifier head 'many'")


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

    def half_written(tensors, name, metadata):
        with open(name, "wb") as part:
            part.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(files, "save_file", half_written)
    with pytest.raises(OSError, match="disk full"):
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
    refused(tmp_path, "There is no noisy classifier file")


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
    refused(rewritten(file, version="2"), "has format version 2, this Guidance Kit reads version 1: update it")


def test_an_unknown_architecture(file):
    refused(rewritten(file, architecture="vit"), "unknown architecture 'vit': update Guidance Kit")


@pytest.mark.parametrize("key", ["parameters", "labels", "log_snr_range"])
@pytest.mark.parametrize(
    "text", [None, "", "{", "null", "7", '"text"', "[]", "[1]", "{}", '{"a": 1}', "[3, 1]", "[[]]"]
)
def test_damaged_metadata(key, text, file):
    changed = rewritten(file, drop=[key]) if text is None else rewritten(file, **{key: text})
    refused(changed, "'cats.safetensors' is damaged: its weights and its description do not agree")


@pytest.mark.parametrize(
    "change", [{"width": 16}, {"multipliers": []}, {"channels": "two"}, {"depth": "many"}, {"extra": 1}]
)
def test_parameters_that_do_not_fit_the_weights(change, file):
    refused(rewritten(file, parameters=json.dumps(PARAMETERS | change)), "is damaged")


def test_labels_that_do_not_fit_the_classes(file):
    refused(rewritten(file, labels='["cat", "dog"]'), "is damaged.*2 labels for 3 classes")


def test_a_log_snr_range_that_is_upside_down(file):
    refused(rewritten(file, log_snr_range="[5.0, -5.0]"), "is damaged.*log-SNR 5.0 to -5.0")


def test_weights_that_are_missing_or_too_many(file):
    refused(rewritten(file, lambda weights: dict(list(weights.items())[1:])), "is damaged")
    refused(rewritten(file, lambda weights: {"extra": torch.zeros(1)}), "is damaged")


def test_latents_of_another_model_are_refused(file, randn):
    with pytest.raises(gc.GuidanceError, match=r"2-channel latents and got 16 channels.*\(this one: sd15\)"):
        gc.NoisyClassifier.load(file)(randn(1, 16, 8, 8), 1.0)
