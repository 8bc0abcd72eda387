"""The README's table of methods is the one that the methods' dataclasses give, and its Python runs as written."""

import re
import textwrap
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import guidance_core as gc
from devtools.host import ROOT
from devtools.make_readme import README, anchor, methods_table, replaced, terms_table

TEXT = README.read_text(encoding="utf-8")
PYTHON = [textwrap.dedent(block) for block in re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)]


def block(word: str) -> str:
    (found,) = (code for code in PYTHON if word in code)
    return found


def test_methods_table_is_up_to_date():
    assert replaced(TEXT, "methods", methods_table()) == TEXT, "run python -m devtools.make_readme --methods"
    assert "| [`standard`](docs/cfg-methods.md#standard-standard) |" in TEXT
    assert replaced(TEXT, "terms", terms_table()) == TEXT, "run python -m devtools.make_readme --methods"
    assert "| `self_guidance` |" in TEXT


def test_links_and_pictures_lead_somewhere():
    targets = re.findall(r"\]\(([^):]+)\)|src=\"([^\"]+)\"", TEXT)
    assert targets
    for link, picture in targets:
        file, _, section = (link or picture).partition("#")
        assert leads(file, section), link or picture


def leads(file: str, section: str) -> bool:
    """Whether there is such a file, with such a section where one is named."""
    place = ROOT / file if file else README
    headings = re.findall(r"^#+ (.+)", place.read_text(encoding="utf-8"), re.MULTILINE) if section else []
    return place.exists() and (not section or section in map(anchor, headings))


def test_library_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(block("save_images"), "README", "exec"), names)
    images = names["d"].to_image(names["x0"])
    assert names["d"].judge.accuracy(images, torch.full((10,), 7)) >= 0.8
    with Image.open(tmp_path / "digits.png") as sheet:
        assert sheet.width > 10 * 128 and sheet.crop((5, 5, 133, 133)).getextrema()[0] == (14, 255)  # ink on paper


def test_methods_example_runs():
    names = {}
    torch.manual_seed(0)
    exec(compile(block("both="), "README", "exec"), names)
    assert names["d"].judge.accuracy(names["d"].to_image(names["x0"]), torch.arange(10)) >= 0.8


def test_training_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    labels = torch.arange(40) % 2
    latents = torch.randn(40, 4, 8, 8) * 0.2 + labels[:, None, None, None]
    code = block("train_classifier").replace("hold_out=0.15", "hold_out=0.15, steps=3")
    exec(compile(code, "README", "exec"), {"latents": latents, "labels": labels})
    assert gc.NoisyClassifier.load("cats-and-dogs.safetensors").labels == ["cat", "dog"]


def test_diffusers_example_runs(tmp_path, monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    labels = torch.arange(40) % 2
    trained = gc.train_classifier(torch.randn(40, 4, 8, 8), labels, ["cat", "dog"], latent_space="sd15", steps=2)
    list(trained)[-1].classifier.save("cats-and-dogs.safetensors")
    network = torch.nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False)
    pipe = SimpleNamespace(  # what the example uses of a pipeline, with diffusers' own scheduler
        unet=lambda x, t, encoder_hidden_states: SimpleNamespace(sample=network(x) + encoder_hidden_states.mean()),
        vae=SimpleNamespace(
            config=SimpleNamespace(scaling_factor=0.18215),
            decode=lambda latents: SimpleNamespace(
                sample=latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)
            ),
        ),
        scheduler=diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        encode_prompt=lambda *given: (torch.randn(1, 77, 768), torch.randn(1, 77, 768)),
    )
    monkeypatch.setitem(vars(diffusers), "StableDiffusionPipeline", SimpleNamespace(from_pretrained=lambda path: pipe))
    names = {}
    exec(compile(block("StableDiffusionPipeline"), "README", "exec"), names)
    assert names["picture"].shape == (1, 3, 512, 512) and names["picture"].isfinite().all()
