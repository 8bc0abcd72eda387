"""What the publish workflow uploads: its steps run in a fresh clone, with stand-ins for what comes from outside."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from archive import listed

from devtools.host import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PUBLISH = yaml.safe_load((ROOT / ".github/workflows/publish.yml").read_text(encoding="utf-8"))["jobs"]["publish"]
GIVEN = {"GITHUB_REPOSITORY": "someone/a-fork", "GITHUB_REF_NAME": "v9.8.7"}
SECRET = "the-key-of-the-publisher"

# comfy-cli packs the files that git tracks, as they lie in the folder; this does so without sending them.
COMFY = f"""#!{sys.executable}
import subprocess, sys, zipfile
assert "publish" in sys.argv and sys.argv[-2:] == ["--token", "{SECRET}"], sys.argv
with zipfile.ZipFile("node.zip", "w") as archive:
    for name in subprocess.check_output(["git", "ls-files"], text=True).splitlines():
        archive.write(name)
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The project as the commit of version 9.8.7, dated as a release is."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", *listed(".gitignore")))
    for name, pattern, text in (
        ("pyproject.toml", r'(?m)^version = ".+"$', 'version = "9.8.7"'),
        ("CHANGELOG.md", r"(?m)^## .+$", "## 9.8.7 (2030-01-31)"),
    ):
        file = folder / name
        file.write_text(re.sub(pattern, text, file.read_text(encoding="utf-8"), count=1), encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--message", "Release")
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def perform(step: dict, folder: Path, environment: dict[str, str]) -> None:
    """A step of a job as the runner performs it; what an action not known here would do to the folder is not."""
    action = step.get("uses", "").partition("@")[0]
    if action == "actions/checkout":
        git(folder, "reset", "--quiet", "--hard")
        git(folder, "clean", "--quiet", "-dfx")
    elif action != "actions/setup-python":
        given = {name: value.replace("${{ secrets.REGISTRY_ACCESS_TOKEN }}", SECRET) for name, value in step_env(step)}
        subprocess.run(["bash", "-e", "-c", step["run"]], cwd=folder, env=environment | given, check=True)


def step_env(step: dict) -> list[tuple[str, str]]:
    return list(step.get("env", {}).items())


@pytest.mark.skipif(os.name == "nt", reason="the workflow runs on Linux")
def test_the_archive_that_is_uploaded_has_the_addresses(clone: Path, tmp_path: Path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (
        ("comfy", COMFY),
        ("pip", "#!/bin/sh\n"),
        ("python", f'#!/bin/sh\nexec {sys.executable} "$@"\n'),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = {**os.environ, **GIVEN, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    for step in PUBLISH["steps"]:
        perform(step, clone, environment)
    with zipfile.ZipFile(clone / "node.zip") as archive:
        published = archive.read("pyproject.toml").decode()
        assert 'Repository = "https://github.com/someone/a-fork"\n' in published
        for name, path in re.findall(r'(?m)^(Icon|Banner) = "https://raw.githubusercontent.com/(.+)"$', published):
            repository, tag, place = re.fullmatch(r"(\w+/[\w-]+)/(v[\d.]+)/(.+)", path).groups()
            assert (repository, tag) == ("someone/a-fork", "v9.8.7"), name
            assert (ROOT / place).is_file()
        assert published.count("\nIcon = ") == published.count("\nBanner = ") == 1


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_named_by_commit_and_may_do_no_more_than_read(workflow: Path):
    text = workflow.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.+)", text)
    assert used
    for each in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\./\.github/workflows/\w+\.yml", each)
    declared = yaml.safe_load(text)
    allowed = [declared["permissions"], *(job.get("permissions", {}) for job in declared["jobs"].values())]
    assert all(each in ({}, {"contents": "read"}) for each in allowed)


def test_the_key_is_seen_by_one_step_and_what_it_runs_is_pinned_with_hashes():
    assert sum("secrets." in str(step) for step in PUBLISH["steps"]) == 1
    lines = (ROOT / ".github/requirements-release.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    assert any(line.startswith("comfy-cli==") for line in lines)
