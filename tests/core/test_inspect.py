"""The commands inspect, convert and evaluate: what they print and write, and what they refuse."""

import argparse
import json
import math

import pytest
import torch
from safetensors.torch import save_file

import guidance_core as gc
from guidance_core import demo
from guidance_core.classifier import network
from guidance_core.classifier.card import CREATED_WITH
from guidance_core.classifier.heads import as_head
from guidance_core.classifier.latent_encoder import LatentEncoder
from guidance_core.classifier.noisy import read_card
from guidance_core.commands import convert, evaluate, inspect

PARAMETERS = {"channels": 2, "classes": 3, "width": 8, "multipliers": [1], "depth": 1, "embedding": 16}
NAMES = ["left", "right", "both"]


def command(module, *words):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def file(tmp_path):
    """A classifier that is written at its weights' random start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = LatentEncoder(**PARAMETERS).eval().requires_grad_(False)
    classifier = gc.NoisyClassifier(network, NAMES, "sd15", (-4.0, 6.0), parameters=PARAMETERS, info={"note": "a\nb"})
    classifier.recording(licence="MIT", author="Someone").save(tmp_path / "sides.safetensors")
    return tmp_path / "sides.safetensors"


@pytest.fixture
def latents(tmp_path, randn):
    save_file(
        {"latents": randn(30, 2, 6, 4, dtype=torch.float16), "labels": torch.arange(30) % 3},
        tmp_path / "held_out.safetensors",
    )
    return tmp_path / "held_out.safetensors"


def test_inspect_prints_the_card_and_builds_no_network(file, capsys, monkeypatch):
    monkeypatch.setitem(network.ARCHITECTURES, "latent_encoder", None)
    assert command(inspect, file) == 0
    said = capsys.readouterr().out
    weights = sum(p.numel() for p in LatentEncoder(**PARAMETERS).parameters())
    for line in (
        f"format        version 2 by {CREATED_WITH}, {file.stat().st_size / 1024:.4g} KiB",
        "labels        3 (labels that exclude each other): left, right, both",
        "latents       sd15",
        "noise         log-SNR -4 to 6, which is sigma 0.0498 to 7.39 on VE, 0.0474 to 0.881 on flow",
        f"network       latent_encoder, {weights:,} weights: channels 2, classes 3, width 8",
        "info          note a\n              b",
        "author        Someone",
        "licence       MIT",
    ):
        assert line in said
    assert "calibration" not in said  # nothing was measured


def test_inspect_shows_what_evaluate_wrote(file, latents, tmp_path, capsys):
    before = gc.NoisyClassifier.load(file)
    assert command(evaluate, file, "--latents", latents, "--out", tmp_path / "page.png", "--device", "cpu") == 0
    evaluated = capsys.readouterr().out
    record = read_card(file).record
    assert len(record.bins) == 10 and record.bins[0].log_snr_low == -4 and record.bins[-1].log_snr_high == 6
    assert len(record.temperatures) == 10 and record.suggestion.reason in evaluated
    assert record.licence == "MIT" and record.chance == pytest.approx(1 / 3)
    after = gc.NoisyClassifier.load(file)
    assert all(torch.equal(a, b) for a, b in zip(after.network.parameters(), before.network.parameters(), strict=True))
    assert command(inspect, file, "--out", tmp_path / "again.png") == 0
    inspected = capsys.readouterr().out
    for b in record.bins:
        line = f"{b.accuracy:.1%}  {1 - b.loss / record.chance_loss:>6.1%}  {b.calibration_error:>11.3f}"
        assert line in inspected and line in evaluated
    from PIL import Image

    for name in ("page.png", "again.png"):
        with Image.open(tmp_path / name) as page:
            assert page.format == "PNG" and page.size[0] == 960
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "again.png", "held_out.safetensors", "page.png", "sides.safetensors"
    ]  # fmt: skip


def test_evaluate_can_leave_the_file_as_it_is(file, latents, tmp_path):
    old = file.read_bytes()
    command(
        evaluate, file, "--latents", latents, "--save", tmp_path / "new.safetensors", "--bins", 3, "--device", "cpu"
    )
    assert file.read_bytes() == old
    assert len(read_card(tmp_path / "new.safetensors").record.bins) == 3


def test_evaluate_is_repeatable_and_follows_its_seed(file, latents, tmp_path):
    records = []
    for seed in (0, 0, 1):
        words = ["--latents", latents, "--save", tmp_path / "new.safetensors", "--seed", seed, "--examples", 12]
        command(evaluate, file, *words, "--device", "cpu")
        records.append(read_card(tmp_path / "new.safetensors").record)
    assert records[0] == records[1] != records[2]
    assert sum(map(sum, records[0].confusion)) % 12 == 0


def test_temperatures_may_be_kept(file, latents):
    classifier = gc.NoisyClassifier.load(file).recording(temperatures=((0.0, 3.0),))
    classifier.save(file)
    command(evaluate, file, "--latents", latents, "--keep-temperature", "--device", "cpu")
    assert read_card(file).record.temperatures == ((0.0, 3.0),)
    command(evaluate, file, "--latents", latents, "--device", "cpu")
    assert len(read_card(file).record.temperatures) == 10


def test_the_digits_are_evaluated(tmp_path, capsys):
    pytest.importorskip("sklearn")
    words = ["--digits", "--save", tmp_path / "d.safetensors", "--bins", 2, "--examples", 100, "--device", "cpu"]
    assert command(evaluate, demo.FOLDER / "classifier.safetensors", *words) == 0
    low, high = read_card(tmp_path / "d.safetensors").record.bins
    assert low.accuracy < 0.6 < 0.9 < high.accuracy
    assert "Guide between log-SNR" in capsys.readouterr().out


def written(file, **tensors):
    save_file(tensors, file)
    return file


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"x": torch.zeros(3)}, "must hold tensors 'latents' .* and has neither"),
        ({"latents": torch.zeros(3, 2, 4, 4)}, r"and has latents \[3, 2, 4, 4\]"),
        ({"latents": torch.zeros(3, 2, 4, 4), "labels": torch.zeros(4).long()}, r"labels \[4\]"),
        ({"latents": torch.zeros(3), "labels": torch.zeros(3).long()}, "must hold tensors"),
        ({"latents": torch.zeros(0, 2, 4, 4), "labels": torch.zeros(0).long()}, "must hold tensors"),
        ({"latents": torch.zeros(3, 2, 4, 4), "labels": torch.tensor([0, 1, 3])}, "a whole number from 0 to 2"),
        ({"latents": torch.zeros(3, 4, 4, 4), "labels": torch.tensor([0, 1, 2])}, "trained on 2-channel latents"),
        ({"latents": torch.full((3, 2, 4, 4), math.nan), "labels": torch.tensor([0, 1, 2])}, "not finite"),
    ],
)
def test_other_latents_are_refused(tensors, sentence, file, tmp_path):
    old = file.read_bytes()
    with pytest.raises(gc.GuidanceError, match=sentence):
        command(evaluate, file, "--latents", written(tmp_path / "l.safetensors", **tensors), "--device", "cpu")
    assert file.read_bytes() == old


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--bins", "0"], "--bins must be at least 1"),
        (["--examples", "0"], "--examples must be at least 1"),
        (["--save", "x.png"], "must go to a .safetensors file"),
        (["--out", "page.jpg"], "must go to a .png file"),
    ],
)
def test_evaluate_refuses_options_before_any_work(words, sentence, file, latents, monkeypatch):
    monkeypatch.setattr(evaluate, "assess", lambda *_, **__: pytest.fail("ran"))
    with pytest.raises(gc.GuidanceError, match=sentence):
        command(evaluate, file, "--latents", latents, "--device", "cpu", *words)


def test_digits_need_a_classifier_of_digits(file):
    with pytest.raises(gc.GuidanceError, match="--digits needs a classifier of zero, .*, not of left, right, both"):
        command(evaluate, file, "--digits", "--device", "cpu")


class Folder:
    """What evaluate reads of a folder of shards."""

    def __init__(self, names, head="single", space=""):
        self.label_names, self.head, self.latent_space = names, as_head(head), space


def test_labels_of_a_folder_are_put_in_the_classifiers_order(file):
    card = read_card(file)
    ours = evaluate._in_order(torch.tensor([0, 1, 2, 0]), Folder(["both", "left", "right"]), card)
    assert [NAMES[i] for i in ours] == ["both", "left", "right", "both"]


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        (Folder(["left", "right", "up"]), "have the labels left, right, up, and the classifier left, right, both"),
        (Folder(NAMES, head="multi"), "labels of the head 'multi', the classifier 'single'"),
        (Folder(NAMES, space="flux"), "are of 'flux', and the classifier is for 'sd15'"),
    ],
)
def test_folders_of_something_else_are_refused(folder, sentence, file):
    with pytest.raises(gc.GuidanceError, match=sentence):
        evaluate._in_order(torch.tensor([0]), folder, read_card(file))


@pytest.mark.parametrize("content", ["cat\ndog\nÜ\n", '["cat", "dog", "Ü"]', "\ufeffcat\r\ndog\r\nÜ\r\n\r\n"])
def test_labels_are_read_from_lines_and_json(content, tmp_path):
    (tmp_path / "labels").write_bytes(content.encode())
    assert convert.read_labels(tmp_path / "labels") == ["cat", "dog", "Ü"]


@pytest.mark.parametrize("content", [b"", b"a\n\nb", b"[1]", b"\xff\xfe\x00", b"[" * 100_000])
def test_other_lists_of_labels_are_refused(content, tmp_path):
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(gc.GuidanceError, match="must hold one name for every class|cannot be read"):
        convert.read_labels(tmp_path / "labels")


def test_a_file_of_version_1_is_converted(tmp_path, capsys):
    (tmp_path / "labels").write_text("\n".join(f"digit {i}" for i in range(10)))
    words = ["--labels", tmp_path / "labels", "--author", "Me", "--licence", "CC0"]
    assert command(convert, demo.FOLDER / "classifier.safetensors", tmp_path / "new.safetensors", *words) == 0
    new, old = read_card(tmp_path / "new.safetensors"), read_card(demo.FOLDER / "classifier.safetensors")
    assert new.labels[7] == "digit 7" and new.parameters == old.parameters and new.info == old.info
    assert (new.record.author, new.record.licence, new.record.created_with) == ("Me", "CC0", CREATED_WITH)
    assert "10 labels, latent_encoder" in capsys.readouterr().out


def test_an_adm_checkpoint_is_converted(tmp_path, capsys):
    from test_adm import SIZE, random_state

    torch.save(random_state(multipliers=(2, 2), depth=1, attended=(1,), size=2 * SIZE), tmp_path / "adm.pt")
    (tmp_path / "labels").write_text(json.dumps([f"n{i}" for i in range(7)]))
    words = [tmp_path / "adm.pt", tmp_path / "adm.safetensors", "--labels", tmp_path / "labels", "--schedule", "cosine"]
    assert command(convert, *words) == 0
    card = read_card(tmp_path / "adm.safetensors")
    assert card.labels == [f"n{i}" for i in range(7)] and card.parameters["schedule"] == "cosine"
    assert (card.latent_space, card.record.training) == ("pixels", {"imported_from": "adm.pt"})
    assert command(inspect, tmp_path / "adm.safetensors") == 0
    assert "adm_encoder" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "out", "words", "sentence"),
    [
        ("sides.safetensors", "x.pt", [], "DST must be a .safetensors file"),
        ("none.safetensors", "x.safetensors", [], "There is no noisy classifier file 'none.safetensors'"),
        ("none.pt", "x.safetensors", [], "There is no file 'none.pt'"),
        ("sides.safetensors", "x.safetensors", ["--labels", "labels"], "has 3 labels, got 2 names"),
    ],
)
def test_convert_refuses(source, out, words, sentence, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels").write_text("a\nb")
    with pytest.raises(gc.GuidanceError, match=sentence):
        command(convert, source, out, *words)
    assert not (tmp_path / out).exists()


def test_hidden_control_sequences_are_not_printed(file):
    """A terminal obeys them."""
    with pytest.raises(gc.GuidanceError, match="'author' must be text of at most 200 characters"):
        gc.NoisyClassifier.load(file).recording(author="\x1b]0;owned\x07").save(file)
