"""The library stands alone: torch, numpy, safetensors and the standard library, and nothing of ComfyUI."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import guidance_core

PACKAGE = Path(guidance_core.__file__).parent
ALLOWED = {"torch", "numpy", "safetensors", "guidance_core"}
WHERE_PICTURES_ARE_READ = {"PIL"}  # inside of functions only
DEFERS = (ast.FunctionDef, ast.ClassDef)
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "execution", "folder_paths", "nodes", "server"}


def imported(nodes):
    """The top-level names of what some syntax imports from outside the package."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


# scripts that make the demo's data and weights are run by hand, and may use what they need
FILES = sorted(file for file in PACKAGE.rglob("*.py") if file.parent.name != "demo" or file.name == "__init__.py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_each_module_imports_only_what_is_allowed(file):
    module = ast.parse(file.read_text(encoding="utf-8"))
    at_once = [node for top in module.body if not isinstance(top, DEFERS) for node in ast.walk(top)]
    assert set(imported(at_once)) <= ALLOWED | sys.stdlib_module_names
    assert set(imported(ast.walk(module))) <= ALLOWED | WHERE_PICTURES_ARE_READ | sys.stdlib_module_names


def test_importing_the_library_loads_nothing_of_comfyui():
    """In a fresh interpreter that sees this package alone."""
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); from guidance_core import *; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"guidance_core", "torch"} <= loaded
    assert not loaded & (HOST | {"scipy", "sklearn", "PIL"})


def declared():
    """The public names that a type checker sees, with the modules they are from."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    assert all(alias.asname == alias.name for node in block.body for alias in node.names)
    return {alias.name: node.module for node in block.body for alias in node.names}


def test_what_a_type_checker_sees_is_what_is_there():
    names = declared()
    assert names.pop("cfg") is None and guidance_core.cfg is sys.modules["guidance_core.cfg"]
    assert names == guidance_core._HOMES and sorted(names) == guidance_core.__all__
    for name, home in names.items():
        assert getattr(guidance_core, name) is getattr(sys.modules[f"guidance_core.{home}"], name)
    assert {*names, "cfg"} <= set(dir(guidance_core))


def test_rooms_are_reached_by_their_names_and_no_other_is():
    assert guidance_core.schedules.betas is guidance_core.betas
    with pytest.raises(AttributeError, match="module 'guidance_core' has no attribute 'sampel'"):
        guidance_core.sampel  # noqa: B018


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["sampel"]])
def test_help_version_and_a_misspelt_command_answer_without_torch(words):
    code = "import sys; from guidance_core.__main__ import main\n"
    code += f"try: main({words})\nexcept SystemExit: pass\nprint('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.splitlines()[-1] == "False False"
