"""The library as a package: built, installed where nothing else is, and used as README says."""

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from test_readme import PYTHON
from test_types import GIVEN

import guidance_core as gc
from devtools.host import ROOT

NAME = re.compile(r"[\w.-]+")
RUNS = [code for code in PYTHON if "demo.load()" in code]
"""README's samples that need no files or networks of the user's own."""


def test_there_is_one_version():
    assert f'\nversion = "{gc.__version__}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def needed(*names, found=()):
    """What these distributions need, themselves included, as far as it is installed here."""
    found = dict(found)
    for name in names:
        try:
            found[name.lower()] = own = distribution(name)
        except PackageNotFoundError:
            continue  # of another platform
        wanted = [NAME.match(each)[0] for each in own.requires or () if "extra ==" not in each]
        found |= needed(*(each for each in wanted if each.lower() not in found), found=found)
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A Python that has the built wheel and nothing else: no torch, no Pillow, no ComfyUI."""
    folder = tmp_path_factory.mktemp("bare")
    copy = folder / "source"  # building writes beside the sources
    shutil.copytree(ROOT / "guidance_core", copy / "guidance_core", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, copy / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, copy], check=True)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    (wheel,) = folder.glob("*.whl")
    subprocess.run([python, "-m", "pip", "--quiet", "install", "--no-index", wheel], check=True)
    return python, wheel


def run(folder, *words):
    done = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_without_torch_it_says_how_to_get_it(bare, tmp_path):
    python, _ = bare
    command = python.with_name("guidance-kit")
    assert run(tmp_path, command, "--version") == (0, f"guidance-kit {gc.__version__}\n", "")
    assert "usage: guidance-kit [-h]" in run(tmp_path, command, "--help")[1]
    refused = run(tmp_path, command, "sample", "--target", "seven", "--out", "a.png")
    assert refused == (2, "", "This needs torch, which is not installed: pip install 'guidance-kit[core]'.\n")


@pytest.mark.slow
def test_with_what_the_extra_names_readmes_samples_run_and_are_in_order(bare, tmp_path):
    """The extra's packages are linked from here, and pip, which may fetch nothing, agrees that they are all there."""
    python, wheel = bare
    site = Path(run(tmp_path, python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")[1].strip())
    for own in needed("torch", "numpy", "safetensors", "pillow").values():
        for top in {path.parts[0] for path in own.files} - {"..", "bin", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(sysconfig.get_path("purelib"), top))
    assert run(tmp_path, python, "-m", "pip", "install", "--quiet", "--no-index", f"{wheel}[core]")[0] == 0
    assert len(RUNS) == 2
    for code in RUNS:
        assert run(tmp_path, python, "-W", "error", "-I", "-c", code) == (0, "", "")
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
    options = {"--target": "seven", "--count": "4", "--steps": "9", "--out": "a.png"}
    words = [word for pair in options.items() for word in pair]
    status, said, _ = run(tmp_path, python.with_name("guidance-kit"), "sample", *words)
    assert status == 0 and "The judge reads: 4 seven" in said and (tmp_path / "a.png").is_file()
    for i, code in enumerate(PYTHON):
        (tmp_path / f"readme_{i}.py").write_text(GIVEN + code, encoding="utf-8")
    checker = [sys.executable, "-m", "mypy", "--python-executable", python, "--config-file", "", "--no-error-summary"]
    status, said, _ = run(tmp_path, *checker, "--ignore-missing-imports", *sorted(tmp_path.glob("readme_*.py")))
    assert (status, said) == (0, "")
