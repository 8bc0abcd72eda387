"""What ships runs nothing that a file or a page brings along, and reaches no network: read off the source itself."""

import ast
import re
from pathlib import Path

import pytest
import torch

import guidance_core as gc
from guidance_core.classifier.adm_import import import_adm
from guidance_core.classifier.card import MAX_LABELS
from guidance_core.files import MAX_HEADER

ROOT = Path(gc.__file__).parents[1]
SHIPPED = sorted([ROOT / "__init__.py", *(ROOT / "guidance_core").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")])
SCRIPTS = sorted((ROOT / "web").rglob("*.js"))
NETWORK = {"socket", "ssl", "urllib", "http", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "asyncio", "xmlrpc"}
PROCESSES = {"subprocess", "multiprocessing", "pty", "ctypes", "runpy"}
PICKLES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
RUNS_CODE = {"eval", "exec", "compile", "__import__", "execfile"}
RUNS_COMMANDS = {"system", "popen", "execv", "execve", "execl", "spawnv", "spawnl", "fork", "startfile"}
# (module, what it imports) -> what it may take of it
ALLOWED = {
    ("guidance_core/classifier/adm_import.py", "pickle"): {"UnpicklingError"},  # to name what torch.load refuses
    ("nodes/curve_route.py", "aiohttp"): {"web"},  # to answer a request to ComfyUI's own server
    ("nodes/curve_route.py", "asyncio"): {"to_thread"},
}
MARKUP = r"\beval\s*\(|\bFunction\s*\(|innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment"


def name_of(file):
    return file.relative_to(ROOT).as_posix()


def every(paths):
    return pytest.mark.parametrize("file", paths, ids=name_of)


def imported_names(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


def wrongs(source, name):
    """What a module does that what ships must not do."""
    tree = ast.parse(source)
    for module in imported_names(tree):
        if module in NETWORK | PROCESSES | PICKLES and (name, module) not in ALLOWED:
            yield f"imports {module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner, taken = node.value.id, node.attr
            if owner in NETWORK | PROCESSES | PICKLES and taken not in ALLOWED.get((name, owner), ()):
                yield f"takes {owner}.{taken}"
            if owner == "os" and taken in RUNS_COMMANDS:
                yield f"takes os.{taken}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in RUNS_CODE:
                yield f"calls {called}"
            if called.endswith("torch.load") and not any(
                word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords
            ):
                yield "calls torch.load without weights_only=True"
            if called in ("np.load", "numpy.load") and any(word.arg == "allow_pickle" for word in node.keywords):
                yield "calls np.load with allow_pickle"
            if called.endswith(("import_module", "load_module")) and "__name__" not in ast.unparse(node):
                yield f"imports by a name it was given: {ast.unparse(node)}"


@every(SHIPPED)
def test_no_module_runs_code_or_commands_of_others_or_reaches_a_network(file):
    assert list(wrongs(file.read_text(encoding="utf-8"), name_of(file))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import subprocess",
        "import urllib.request",
        "eval('1')",
        "exec(text)",
        "os.system('ls')",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "importlib.import_module(name)",
    ],
)
def test_the_search_finds_what_it_looks_for(source):
    assert list(wrongs(source, "guidance_core/anything.py"))


@every(SCRIPTS)
def test_no_script_of_the_page_makes_markup_or_code_of_data_or_loads_from_elsewhere(file):
    text = file.read_text(encoding="utf-8")
    assert re.findall(MARKUP, text) == []
    addresses = set(re.findall(r"""["'`]((?:https?:|wss?:)?//[^"'`]+)""", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # the name of SVG, which nothing is loaded from
    assert all(start in ".'\"`" for start in re.findall(r"\bimport\s*\(\s*(.)", text)), "imports what it computes"


def test_there_are_scripts_and_modules_to_look_at():
    assert len(SCRIPTS) > 3
    assert {"__init__.py", "guidance_core/files.py", "nodes/adapter.py"} <= set(map(name_of, SHIPPED))


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path):
    trap, sprung = Trap(), tmp_path / "sprung"
    trap.path = str(sprung)
    torch.save({"weights": torch.zeros(2), "trap": trap}, tmp_path / "trap.pt")
    for load in (import_adm, gc.NoisyClassifier.load):
        with pytest.raises(gc.GuidanceError):
            load(tmp_path / "trap.pt")
        (tmp_path / "trap.safetensors").write_bytes((tmp_path / "trap.pt").read_bytes())
        with pytest.raises(gc.GuidanceError):
            load(tmp_path / "trap.safetensors")
    assert not sprung.exists()
    torch.load(tmp_path / "trap.pt", weights_only=False)
    assert sprung.exists(), "the trap itself works"


def test_limits_are_such_that_no_file_fills_memory():
    """What a file may declare at most, before anything is read for it (test_fuzz_files holds the readers to it)."""
    assert MAX_HEADER <= 16 * 2**20
    assert MAX_LABELS <= 100_000
