"""What a release needs: a semantic version, a dated heading in the changelog, the right tag, addresses, an archive."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive import LEFT_OUT, left_out, shipped

from devtools.host import ROOT
from devtools.release import VERSION, faults, with_addresses

PYPROJECT = '[project]\nname = "x"\nversion = "1.2.3"\n\n[tool.comfy]\nPublisherId = "x"\n'
CHANGELOG = "# Changelog\n\n## 1.2.3 (2030-01-31)\n\n- a change\n"


def test_a_release_in_order_has_no_faults():
    assert faults(PYPROJECT, CHANGELOG, "v1.2.3") == []


@pytest.mark.parametrize(
    "pyproject, changelog, tag, word",
    [
        (PYPROJECT.replace("1.2.3", "1.2"), CHANGELOG, "v1.2", "one version of the form"),
        (PYPROJECT.replace("1.2.3", "1.02.3"), CHANGELOG, "v1.02.3", "one version of the form"),
        (PYPROJECT, CHANGELOG.replace("1.2.3", "1.2.2"), "v1.2.3", "has no heading '## 1.2.3"),
        (PYPROJECT, CHANGELOG.replace("2030-01-31", "unreleased"), "v1.2.3", "write the day"),
        (PYPROJECT, CHANGELOG, "v1.2.4", "tag the release v1.2.3"),
        (PYPROJECT, CHANGELOG, "", "tag the release v1.2.3"),
    ],
)
def test_what_is_no_release_is_refused_in_a_sentence(pyproject, changelog, tag, word):
    (fault,) = faults(pyproject, changelog, tag)
    assert word in fault and fault.endswith(".")


def test_the_project_itself_lacks_nothing_but_its_day():
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = faults(pyproject, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), f"v{VERSION.findall(pyproject)[0]}")
    assert all("write the day" in fault for fault in found)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is new in Python 3.11")
def test_addresses_are_of_the_repository_that_publishes():
    import tomllib

    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    before, after = tomllib.loads(text), tomllib.loads(with_addresses(text, "someone/a-fork", "v1.2.3"))
    assert after["project"].pop("urls")["Repository"] == "https://github.com/someone/a-fork"
    for name in ("Icon", "Banner"):
        address = after["tool"]["comfy"].pop(name)
        start = "https://raw.githubusercontent.com/someone/a-fork/v1.2.3/"
        assert address.startswith(start) and (ROOT / address.removeprefix(start)).is_file()
    assert after == before


def test_icon_and_banner_have_the_shape_that_the_registry_shows():
    from PIL import Image

    with Image.open(ROOT / "docs/images/icon.png") as icon, Image.open(ROOT / "docs/images/banner.png") as banner:
        assert icon.width == icon.height <= 400
        assert banner.width * 9 == banner.height * 21


def imported(file: Path) -> Iterator[Path]:
    """Where the modules that a file imports would lie in the project."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (ROOT / alias.name.replace(".", "/") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = (file.parents[node.level - 1] if node.level else ROOT) / (node.module or "").replace(".", "/")
            yield from (module / alias.name for alias in node.names)


def test_the_archive_leaves_out_development_and_nothing_that_the_pack_needs():
    assert all(path.exists() for path in LEFT_OUT)
    for needed in ("__init__.py", "nodes", "guidance_core", "web", "locales", "example_workflows", "pyproject.toml"):
        assert not left_out(ROOT / needed)
    assert {ROOT / folder for folder in ("tests", "devtools", "benchmarks")} <= LEFT_OUT


def test_no_module_of_the_archive_imports_what_is_left_out():
    modules = shipped("*.py")
    assert {ROOT / "__init__.py", ROOT / "nodes/ui/curve.py", ROOT / "guidance_core/scale.py"} <= set(modules)
    gone = {path.with_suffix("") for path in LEFT_OUT}
    needed = [(file, path) for file in modules for path in imported(file)]
    assert [(file, path) for file, path in needed if not gone.isdisjoint([path, *path.parents])] == []


def test_pictures_of_the_pages_in_the_archive_are_in_it():
    pages = shipped("*.md")
    assert ROOT / "README.md" in pages and ROOT / "docs/cfg-methods.md" in pages
    pictures = [
        (page.parent / (inline or html)).resolve()
        for page in pages
        for inline, html in re.findall(r"!\[[^\]]*\]\(([^):]+)\)|src=\"([^\":]+)\"", page.read_text(encoding="utf-8"))
    ]
    assert ROOT / "docs/images/guidance.png" in pictures
    assert [picture for picture in pictures if left_out(picture)] == []
