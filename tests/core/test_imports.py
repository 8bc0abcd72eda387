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
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import guidance_core; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "guidance_core" in loaded
    assert not loaded & (HOST | {"scipy", "sklearn", "PIL"})


def test_all_is_sorted_and_complete():
    assert all(hasattr(guidance_core, name) for name in guidance_core.__all__)
    public = {name for name, value in vars(guidance_core).items() if not name.startswith("_")}
    modules = {name for name in public if type(getattr(guidance_core, name)) is type(sys)}
    assert public - modules == set(guidance_core.__all__)
