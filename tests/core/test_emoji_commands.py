"""The emoji demo's commands from end to end, on a few drawn pictures and for a few steps: what they write and print."""

import dataclasses
import json
import sys
from functools import partial

import pytest
import torch

import guidance_core as gc
from guidance_core.demo.emoji import evaluate, latents, train, train_classifiers, train_denoiser, train_judge, train_vae
from guidance_core.demo.emoji.classes import ATTRIBUTES, LABELS
from guidance_core.demo.emoji.data import FORMAT, load_pictures
from guidance_core.demo.emoji.judge import Guide, Judge
from guidance_core.demo.emoji.network import Denoiser
from guidance_core.demo.emoji.vae import Vae
from guidance_core.demo.emoji.weights import load
from guidance_core.files import write_tensors

EACH = 6  # pictures of a class: two of each part
NETWORKS = {"vae": Vae, "denoiser": Denoiser, "guide": Guide, "judge": Judge}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with pictures: discs and squares of a colour for each class, on white."""
    folder = tmp_path_factory.mktemp("emoji")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(len(LABELS)).repeat_interleave(EACH)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    radii = 0.5 + 0.4 * torch.rand(len(labels), generator=generator)
    colours = (255 * torch.rand(len(LABELS), 3, generator=generator)).byte()[labels]
    disc, square = torch.hypot(x, y), torch.maximum(x.abs(), y.abs())
    number = torch.arange(len(labels))
    inside = torch.where((number % 2 == 0)[:, None, None], disc, square) < radii[:, None, None]
    images = torch.where(inside[:, None], colours[:, :, None, None], torch.tensor(255, dtype=torch.uint8))
    tensors = {"images": images, "labels": labels, "emoji": number, "part": number % 3, "smiling": number % 2 == 0}
    names = [f"{LABELS[label]} {i}" for i, label in enumerate(labels.tolist())]
    metadata = {"format": FORMAT, "names": json.dumps(names)}
    write_tensors(folder / "pictures.safetensors", tensors, metadata)
    return folder


def run(command, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    command.main()


@pytest.fixture
def short(monkeypatch):
    """Trainings of two steps."""
    for module, names in ((train_vae, ["PLAN"]), (train_denoiser, ["PLAN"]), (train_judge, ["GUIDE", "JUDGE"])):
        for name in names:
            monkeypatch.setattr(module, name, dataclasses.replace(getattr(module, name), steps=2))
    for module, name in ((train_vae, "BATCH"), (train_denoiser, "BATCH"), (train_judge, "GUIDE_BATCH")):
        monkeypatch.setattr(module, name, 4)
    monkeypatch.setattr(train_judge, "JUDGE_BATCH", 4)
    monkeypatch.setattr(latents, "SIZE", 100)
    monkeypatch.setattr(train_classifiers, "SETTINGS", train_classifiers.SETTINGS | {"batch": 4})
    monkeypatch.setattr(train_classifiers, "STEPS", dict.fromkeys(train_classifiers.STEPS, 2))


@pytest.fixture
def few(monkeypatch):
    """Measures over few pictures."""
    of = evaluate.Measure.of
    monkeypatch.setattr(evaluate.Measure, "of", lambda demo, pictures: of(demo, pictures, 100))
    monkeypatch.setattr(evaluate, "copies", partial(evaluate.copies, count=50))
    monkeypatch.setattr(latents, "SIZE", 100)


def test_parts_are_trained_in_turn(work, short, tmp_path, monkeypatch, capsys):
    """The VAE comes first; each command writes its part with what is known of it, and nothing is trained twice."""
    with pytest.raises(gc.GuidanceError, match="The VAE comes first"):
        run(train, monkeypatch, "--part", "denoiser", "--work", work, "--out", tmp_path)
    for part, network in NETWORKS.items():
        run(train, monkeypatch, "--part", part, "--work", work, "--out", tmp_path)
        assert f"{part}.safetensors: step 2, trained for" in capsys.readouterr().out
        _, card = load(network(), part, tmp_path)
        assert card["part"] == part and card["steps"] == "2"
        if part in ("guide", "judge"):
            assert 0 <= float(card["held_out_accuracy"]) <= 1
    written = load(Vae(), "vae", tmp_path)[0].state_dict()
    run(train, monkeypatch, "--part", "vae", "--work", work, "--out", tmp_path)  # goes on from its end
    torch.testing.assert_close(load(Vae(), "vae", tmp_path)[0].state_dict(), written, atol=0, rtol=0)
    for part, labels in (("classifier", LABELS), ("attributes", ATTRIBUTES)):
        run(train, monkeypatch, "--part", part, "--work", work, "--out", tmp_path)
        trained = gc.NoisyClassifier.load(tmp_path / f"{part}.safetensors")
        assert tuple(trained.labels) == labels and trained.record.licence == "Apache-2.0"


def test_the_banks_latents_are_of_unit_variance_and_come_back(work, monkeypatch):
    monkeypatch.setattr(latents, "SIZE", 100)
    vae = load(Vae(), "vae")[0]
    bank = latents.make_bank(load_pictures(work), vae)
    assert bank.x0.shape == (100, 4, 16, 16) and bank.attributes.shape == (100, len(ATTRIBUTES))
    torch.testing.assert_close(bank.x0.std(), torch.tensor(1.0), atol=1e-3, rtol=0)
    assert abs(float(bank.x0.mean())) < 1e-4
    file = work / "kept.safetensors"
    kept = [latents.load_bank(load_pictures(work), vae, file) for _ in range(2)]  # made, then read
    for each in kept:
        torch.testing.assert_close(each.x0, bank.x0)
        assert (each.scale, each.shift) == (bank.scale, bank.shift)


@pytest.mark.parametrize(
    ("table", "rows"),
    [("cfg", ["CFG"]), ("methods", ["standard", "apg"]), ("classifier", ["classifier"]), ("guide", ["guide"])],
)
def test_tables_have_a_row_for_each_scale(work, few, tmp_path, monkeypatch, capsys, table, rows):
    for name in ("CFG_SCALES", "CLASSIFIER_SCALES", "GUIDE_SCALES", "METHOD_SCALES"):
        monkeypatch.setattr(evaluate, name, (1.5, 3.0))
    monkeypatch.setattr(evaluate, "METHODS", {row: evaluate.METHODS.get(row, {}) for row in rows})
    kept = tmp_path / "rows.jsonl"
    small = ["--samples", 11, "--steps", 2, "--seeds", 2, "--work", work, "--sheet", tmp_path / "sheet.png"]
    small += ["--rows", kept]
    run(evaluate, monkeypatch, "--table", table, *small)
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["guidance", "scale", "accuracy", "Frechet", "colour"]
    wanted = [[row, scale] for scale in ("1.5", "3") for row in rows]
    assert [line.split()[:2] for line in lines] == wanted and all("±" in line for line in lines)
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    found = [evaluate.Row(**json.loads(line)) for line in kept.read_text(encoding="utf-8").splitlines()]
    assert [str(row) for row in found] == lines and {row.samples for row in found} == {11}


def test_near_copies_are_counted_and_real_pictures_measured(work, few, monkeypatch, capsys):
    small = ["--samples", 11, "--steps", 2, "--work", work]
    run(evaluate, monkeypatch, "--table", "copies", *small)
    assert "of 11 samples at CFG 3" in capsys.readouterr().out
    run(evaluate, monkeypatch, "--table", "floor", *small)
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["real pictures", "through the VAE"]
