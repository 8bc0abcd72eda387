"""The pages of docs/ say what the code says: the methods' dataclasses, and names that exist."""

import ast
import io
import pkgutil
import re
import tokenize
from pathlib import Path

import pytest

import guidance_core as gc
from devtools import make_terms
from devtools.host import ROOT
from devtools.make_methods import PAGE, PICTURE, with_text
from guidance_core import cfg_methods
from guidance_core.params import params_of

MATHEMATICS = (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8")
BUILT = (ROOT / "docs" / "how-it-is-built.md").read_text(encoding="utf-8")
ROOMS = [module.name for module in pkgutil.iter_modules(gc.__path__)]
NAMED = re.compile(rf"`((?:{'|'.join(ROOMS)})(?:\.\w+)+)`")
CODE = ("guidance_core", "nodes", "devtools", "benchmarks", "tests")
POINTS = re.compile(r"(?<![\w/.*<])(?:(?:docs|web|tests|devtools)/[\w/.-]+\.(?:md|py)|[a-z][\w-]*\.md)\b")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")]


def test_what_follows_from_the_methods_is_up_to_date():
    page = PAGE.read_text(encoding="utf-8")
    assert with_text(page) == page, "run python -m devtools.make_methods --text"


def test_what_follows_from_terms_and_varieties_is_up_to_date():
    page = make_terms.PAGE.read_text(encoding="utf-8")
    assert make_terms.with_text(page) == page, "run python -m devtools.make_terms --text"
    assert all(f"### `{kind.name}`: {kind.title}\n" in page for kind in make_terms.documented())


def test_every_method_has_its_section_parameters_and_place():
    page = PAGE.read_text(encoding="utf-8")
    order, _, rest = page.partition("<!-- order -->")[2].partition("<!-- /order -->")
    for method in cfg_methods().values():
        section = rest.partition(f"### `{method.name}`: {method.title}\n")[2].partition("\n### ")[0]
        assert method.source in section and method.doc in section
        assert all(f"| `{name}` |" in section for name in params_of(method))
        assert (f"`{method.name}`" in order) == (method.name != "standard")


def test_the_picture_is_there():
    assert "](images/cfg-methods.jpg)" in PAGE.read_text(encoding="utf-8")
    assert PICTURE.stat().st_size > 10_000


@pytest.mark.parametrize("name", sorted({*NAMED.findall(MATHEMATICS), *NAMED.findall(BUILT)}))
def test_what_the_pages_name_exists(name: str):
    pkgutil.resolve_name(f"guidance_core.{name}")  # raises where there is none


def rows(page: str) -> list[list[str]]:
    """The cells of the tables' rows."""
    return [row.strip("| ").split(" | ") for row in page.splitlines() if row.startswith("| ")]


def test_every_formula_names_what_computes_it_and_its_source():
    found = [row for row in rows(MATHEMATICS) if "function" not in row]
    assert len(found) > 60
    for row in found:
        assert len(row) in (4, 5), row
        assert NAMED.search(row[-2]) or row[-2].startswith("no function"), row


def test_every_method_shape_and_sampler_has_its_formula():
    by_name = {row[0].strip("`"): row for row in rows(MATHEMATICS)}
    for method in cfg_methods().values():
        assert f"`{method.__module__.removeprefix('guidance_core.')}." in by_name[method.name][3]
    assert set(gc.SAMPLERS) <= set(by_name)
    assert all(f"`shapes.{shape.__name__}`" in MATHEMATICS for shape in gc.SHAPES.values())


def test_the_paths_on_the_page_of_the_design_are_there():
    paths = re.findall(r"`((?:\w[\w.-]*/)+[\w.-]*)`", BUILT)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def said(file: Path) -> str:
    """The docstrings and comments of a module."""
    source = file.read_text(encoding="utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join([*docstrings, *(token.string for token in tokens if token.type == tokenize.COMMENT)])


@pytest.mark.parametrize("folder", [*CODE, "docs"])
def test_what_is_pointed_at_is_there(folder: str):
    texts = {file: said(file) for file in ROOT.glob(f"{folder}/**/*.py")}
    texts |= {file: file.read_text(encoding="utf-8") for file in (PAGES if folder == "docs" else ())}
    pointed = [(file, at) for file, text in texts.items() for at in POINTS.findall(text)]
    lost = [(file, at) for file, at in pointed if not any((base / at).is_file() for base in (ROOT, file.parent))]
    assert lost == []
