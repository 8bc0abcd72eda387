"""Types: the library says that it has them; README's samples and denoisers of a user's own are in order by them."""

import re
import subprocess
import sys

import pytest
from test_readme import PYTHON

from devtools.host import ROOT

GIVEN = """
import torch
from torch import Tensor
latents: Tensor = torch.zeros(8, 4, 8, 8)
labels: Tensor = torch.zeros(8, dtype=torch.long)
"""
OWN = """
import torch
from torch import Tensor, nn
import guidance_core as gc

def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
    return 0.5 * x

def conditioned(x: Tensor, sigma: Tensor | float, *, y: Tensor) -> Tensor:
    return 0.5 * x

class Network(nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x

def classifier(x: Tensor, sigma: Tensor, path: gc.NoisePath) -> Tensor:
    return x.flatten(1)[:, :3]

noise, sigmas = torch.randn(2, 4, 8, 8), gc.karras(0.05, 20.0, 8)
guided = gc.cfg_guided(denoiser, lambda x, s: 0.4 * x, 4.0, method=[gc.cfg.Apg(eta=0.2), "rescale"])
steered = gc.classifier_guided(guided, classifier, torch.tensor([0, 1]), scale=2.0)
x0: Tensor = gc.sample(steered, noise, sigmas, sampler="heun")
levels = gc.sigmas_from_betas(gc.betas("cosine"))
mine: gc.Denoiser = gc.eps_denoiser(Network(), levels)
other: gc.Denoiser = conditioned
judge: gc.Classifier = gc.NoisyClassifier.load("a.safetensors")
"""
WRONG = {  # what a user may get wrong -> what is said of it
    "gc.sample(0.5, noise, sigmas)": 'Argument 1 to "sample" has incompatible type "float"; expected "Denoiser"',
    "gc.sample(denoiser, noise, 20)": 'Argument 3 to "sample" has incompatible type "int"; expected "Tensor"',
    "gc.cfg_guided(denoiser, denoiser, 'four')": 'incompatible type "str"; expected "float"',
    "gc.classifier_guided(denoiser, lambda x: x, labels)": 'expected "Classifier | CleanClassifier"',
}


def checked(tmp_path, samples):
    """What mypy says of files of user code, as (file, line, message)."""
    for name, code in samples.items():
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    files = [str(tmp_path / f"{name}.py") for name in samples]
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--no-error-summary"]
    said = subprocess.run([sys.executable, "-m", "mypy", *options, *files], cwd=ROOT, capture_output=True, text=True)
    assert said.stderr == ""
    found = re.findall(r"(\w+)\.py:(\d+): error: (.*)", said.stdout)
    return [(name, int(line), message) for name, line, message in found if name in samples]


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "guidance_core" / "py.typed").read_bytes() == b""
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_user_code_is_checked(tmp_path):
    """The README's samples and code of a user's own are in order; each mistake is found, in its line."""
    assert len(PYTHON) >= 3
    samples = {f"readme_{i}": GIVEN + code for i, code in enumerate(PYTHON)} | {"own": OWN}
    mistakes = {f"wrong_{i}": OWN + f"labels = torch.tensor([0])\n{code}\n" for i, code in enumerate(WRONG)}
    found = checked(tmp_path, samples | mistakes)
    assert [each for each in found if each[0] in samples] == []
    for name, (code, message) in zip(mistakes, WRONG.items(), strict=True):
        (line, said), *more = [(line, said) for file, line, said in found if file == name]
        assert not more and line == mistakes[name].count("\n"), code
        assert message in said


@pytest.mark.parametrize("path", sorted((ROOT / "guidance_core").rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_is_taken_from_the_checker_as_a_whole(path):
    """An ignored line names its error; a whole file is never left out."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"#\s*type:\s*ignore(?!\[)|#\s*mypy:|@no_type_check", text)
