"""Load Aesthetic Head in a real ComfyUI: the score of the picture rises or falls, and bad files are told."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from graph import Graph, classifier_guidance, fresh, ksampler, read
from safetensors.torch import save_file

from devtools.server import PromptFailed, PromptRejected

SIZE = 24  # of the probe's embeddings


def layers(*sizes, bias=True):
    """Linear layers as the LAION predictors name them: layers.0.weight, layers.2.weight, ..."""
    g = torch.Generator().manual_seed(0)
    made = {}
    for i, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False)):
        made[f"layers.{2 * i}.weight"] = torch.randn(after, before, generator=g)
        if bias:
            made[f"layers.{2 * i}.bias"] = torch.randn(after, generator=g)
    return made


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.fixture(scope="module", autouse=True)
def place(server):
    """models/classifiers with heads in it."""
    place = server.base / "models" / "classifiers"
    place.mkdir(parents=True, exist_ok=True)
    save_file(layers(SIZE, 8, 1), place / "mlp.safetensors")
    torch.save(layers(SIZE, 1, bias=False), place / "linear.pth")
    return place


def run(server, file, scale, target="score"):
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    head = g.GuidanceKitLoadAestheticHead(
        file=file, clip_vision=g.ProbeVision(kind="clip", nonce=0), vae=digits.slot(1)
    )
    guided = classifier_guidance(g, digits, head, target, scale)
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
    empty = g.EmptyLatentImage(width=128, height=128, batch_size=2)
    latent = ksampler(g, guided, sampler="euler_ancestral", latent=empty, positive=null, negative=null)
    node = g.ProbeRead(latent=latent, nonce=fresh())
    result = server.run(g.prompt)
    return read(result, node).latent, "\n".join(result.texts[guided.node])


def score(said):
    """The score at the last step, as the node says it."""
    return float(re.search(r"core at the end: ([-.\d]+)", said)[1])


@pytest.mark.parametrize("file", ["mlp.safetensors", "linear.pth"])
def test_the_score_rises_or_falls(server, file):
    low, said_low = run(server, file, -2.0)
    high, said_high = run(server, file, 2.0)
    assert np.isfinite(low).all() and np.isfinite(high).all()
    assert score(said_low) < score(said_high)
    away, _ = run(server, file, 2.0, "-score")
    np.testing.assert_allclose(away, low, atol=1e-4)


BAD = {
    "text.safetensors": (lambda f: f.write_text("no weights"), "cannot be read as plain weights"),
    "trap.pth": (lambda f: torch.save({"layers.0.weight": trap(f)}, f), "cannot be read as plain weights"),
    "list.pth": (lambda f: torch.save([torch.zeros(1, SIZE)], f), "does not end in one number"),
    "two.safetensors": (lambda f: save_file(layers(SIZE, 2), f), "does not end in one number"),
    "gap.safetensors": (
        lambda f: save_file(layers(SIZE, 8) | {"layers.9.weight": torch.zeros(1, 9)}, f),
        "no chain of",
    ),
    "more.safetensors": (
        lambda f: save_file({"conv.kernel": torch.zeros(1, SIZE)}, f),
        "holds more than linear layers",
    ),
    "nan.safetensors": (lambda f: save_file({"weight": torch.full((1, SIZE), torch.nan)}, f), "no chain of"),
    "other.safetensors": (lambda f: save_file(layers(768, 1), f), "made for embeddings of 768 numbers.* gives 24"),
}


def trap(file):
    made = Trap()
    made.path = str(file.with_suffix(".sprung"))
    return made


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_told_in_a_sentence(server, place, name):
    make, sentence = BAD[name]
    make(place / name)
    with pytest.raises(PromptFailed, match=f"Load Aesthetic Head: '{name}' .*{sentence}"):
        run(server, name, 1.0)
    assert not (place / name).with_suffix(".sprung").exists()


@pytest.mark.parametrize("name", ["../mlp.safetensors", "none.pth", "vit", "", "x" * 5000 + ".pth", "a\0.pth"])
def test_a_file_that_is_not_there_is_told(server, name):
    with pytest.raises(PromptRejected, match="there is no file"):
        run(server, name, 1.0)
