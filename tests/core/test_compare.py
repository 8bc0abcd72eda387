"""Distances between clouds of features in closed form, the command that measures them, and samples by the thousand."""

import pytest
import torch
from safetensors.torch import load_file, save_file

import guidance_core as gc
from guidance_core import demo
from guidance_core.__main__ import main
from guidance_core.assess import distance
from guidance_core.assess.distance import Moments, frechet, frechet_distance, precision_and_recall
from guidance_core.demo import many
from guidance_core.demo.many import ManyDigits
from guidance_core.distributed import Process
from guidance_core.progress import run_to_end
from guidance_core.work_folder import WorkFolder


def test_merged_moments_are_those_of_the_whole(randn):
    features = randn(100, 5) * torch.arange(1, 6) + 30
    merged = Moments.merged(map(Moments.of, features.split(7)), Process())
    assert torch.allclose(merged.mean, features.mean(0))
    assert torch.allclose(merged.covariance, torch.cov(features.T), atol=1e-8)
    other = randn(80, 5, seed=1)
    assert frechet(merged, Moments.of(other)) == pytest.approx(frechet_distance(features, other), rel=1e-8)


def test_precision_and_recall_in_closed_form(monkeypatch):
    monkeypatch.setattr(distance, "ROWS", 4)
    line = torch.arange(20.0)[:, None]
    assert precision_and_recall(line, line + 0.25) == (1.0, 1.0)
    assert precision_and_recall(line, line + 100) == (0.0, 0.0)
    assert precision_and_recall(line, line[:5] + 0.25) == (1.0, pytest.approx(8 / 20))  # to 3 beyond its end at 4.25
    assert precision_and_recall(line[:5], line, neighbours=1)[0] == pytest.approx(6 / 20)
    with pytest.raises(gc.GuidanceError, match="need more than 3 of each, got 20 and 3"):
        precision_and_recall(line, line[:3])


def test_the_command_compares_files_and_folders(tmp_path, randn, capsys):
    a, b = randn(40, 3, dtype=torch.float32), randn(30, 3, seed=1, dtype=torch.float32) + 1
    save_file({"features": b}, tmp_path / "b.safetensors")
    (tmp_path / "a").mkdir()
    for i, part in enumerate(a.split(25)):
        save_file({"features": part}, tmp_path / "a" / f"{i}.safetensors")
    words = ["compare", str(tmp_path / "a"), str(tmp_path / "b.safetensors"), "--device", "cpu"]
    assert main(words) == 0
    precision, recall = precision_and_recall(b, a)
    expected = f"Frechet distance {frechet_distance(a, b):.4f}, precision {precision:.4f}, recall {recall:.4f}"
    assert capsys.readouterr().out == f"{expected} (40 samples, 30 real)\n"
    save_file({"features": b[:, :2].contiguous()}, tmp_path / "c.safetensors")
    save_file({"features": b / 0}, tmp_path / "d.safetensors")
    (tmp_path / "none").mkdir()
    for name, sentence in (("c.safetensors", "of one kind"), ("d.safetensors", "finite"), ("none", "no safetensors")):
        assert main([*words[:2], str(tmp_path / name)]) == 2
        assert sentence in capsys.readouterr().err
    assert main([*words, "--neighbours", "-1"]) == 2


# --- samples by the thousand ------------------------------------------------------------------------------------------


@pytest.fixture
def digits(tmp_path, monkeypatch):
    monkeypatch.setattr(many, "PART", 10)
    d = demo.load()

    def make(name, count=35):
        sigmas = gc.schedules.trailing(d.sigmas, 2)
        return ManyDigits(
            d, lambda n: d.cond(torch.arange(n) % 10), sigmas, "ddpm", 3, count, WorkFolder(tmp_path / name, "x")
        )

    return make


def test_samples_are_the_same_for_any_processes_and_after_a_break(digits, tmp_path):
    one, two = digits("one"), digits("two")
    run_to_end(one.run(one.to_do(), Process(), one.work.launch()))
    launch, to_do = two.work.launch(), two.to_do()
    next(two.run(to_do, Process(1, 2), launch))
    launch, to_do = two.work.launch(), two.to_do()
    assert to_do == [0, 2, 3]
    for rank in range(2):
        run_to_end(two.run(to_do, Process(rank, 2), launch))
    names = [f"samples-{part:05d}.safetensors" for part in range(4)]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    parts = [load_file(tmp_path / "one" / name) for name in names]
    assert [len(part["images"]) for part in parts] == [10, 10, 10, 5]
    assert not torch.equal(parts[0]["images"], parts[1]["images"])
    assert int(one.read().sum()) == 35
    with pytest.raises(gc.GuidanceError, match="Another launch of the same command is at work"):
        one.work.launch()
        (tmp_path / "one" / names[0]).unlink()
        run_to_end(one.run(one.to_do(), Process(), launch))


def test_the_command_samples_into_a_folder_and_goes_on(tmp_path, capsys):
    words = ["sample", "--cfg", "2", "--steps", "1", "--count", "3", "--out", str(tmp_path / "many")]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(f"Wrote 3 samples to '{tmp_path / 'many'}'. The judge reads: ")
    assert main(words) == 0 and "Wrote 3 samples" in capsys.readouterr().out
    assert main([*words, "--seed", "1"]) == 2
    assert "holds other work: seed was 0 and is 1. Make them the same" in capsys.readouterr().err
    assert main([*words, "--count", "99999999"]) == 2
    assert "--count must be at most 10000000" in capsys.readouterr().err
