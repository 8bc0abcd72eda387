"""What ships runs nothing that a file or a page brings along, and reaches no network: read off the source itself.

The search finds what is written plainly, under whatever name; what is hidden on purpose only a reader finds.
"""

import ast
import re
from pathlib import Path

import pytest
import torch
from archive import ROOT, shipped

import guidance_core as gc
from guidance_core.classifier.adm_import import import_adm
from guidance_core.classifier.card_values import MAX_LABELS
from guidance_core.files import MAX_HEADER

MODULES, SCRIPTS = shipped("*.py"), shipped("*.js")
KINDS = {"", ".jpg", ".js", ".json", ".md", ".png", ".py", ".pyc", ".safetensors", ".toml", ".txt", ".typed"}
HARMLESS = {
    "abc", "argparse", "base64", "binascii", "bisect", "collections", "comfy", "comfy_api", "comfy_execution",
    "contextlib", "contextvars", "copy", "csv", "dataclasses", "difflib", "enum", "errno", "folder_paths", "functools",
    "guidance_core", "hashlib", "heapq", "io", "itertools", "json", "latent_preview", "math", "node_helpers", "numbers",
    "numpy", "pathlib", "re", "safetensors", "secrets", "struct", "time", "torch", "typing", "unicodedata", "warnings",
    "weakref", "zipfile",
}  # fmt: skip
# what may be taken of other modules, everywhere and in one file
TAKEN = {
    "PIL": {"Image", "ImageDraw", "ImageFont", "ImageOps"},
    "ast": {"get_docstring", "parse"},
    "datetime": {"timedelta"},
    "importlib": {"import_module"},
    "inspect": {"isabstract", "isclass", "signature"},
    "os": {"PathLike", "environ", "fstat", "fsync", "path", "replace", "sep", "stat", "walk"},
    "pkgutil": {"iter_modules"},
    "unicodedata": {"bidirectional", "category", "normalize"},
    "server": {"PromptServer"},
    "signal": {"SIGINT", "SIGTERM", "signal"},
    "sys": {"argv", "exit", "platform", "stderr", "version_info"},
    "tarfile": {"BLOCKSIZE", "ReadError", "TarError", "TarInfo", "open"},  # to read in place, never to unpack
    "types": {"ModuleType"},
}
TAKEN_IN = {
    ("guidance_core/classifier/adm_import.py", "pickle"): {"UnpicklingError"},  # to name what torch.load refuses
    ("guidance_core/distributed.py", "torch"): {"distributed"},  # for torchrun
    ("guidance_core/locked.py", "fcntl"): {"LOCK_EX", "LOCK_NB", "lockf"},  # that two launches share no file
    ("guidance_core/locked.py", "msvcrt"): {"LK_NBLCK", "locking"},
    ("guidance_core/demo/data.py", "sklearn"): {"datasets", "model_selection"},  # the digits, when run by hand
    ("nodes/host/passes.py", "threading"): {"Lock", "local"},  # to count in the threads that ComfyUI starts
    ("nodes/host/image_folders.py", "transformers"): {"AutoModelForImageClassification"},  # and of it one call
    ("nodes/host/aesthetic.py", "pickle"): {"UnpicklingError"},  # likewise
    ("nodes/ui/curve_route.py", "aiohttp"): {"web"},  # to answer a request to ComfyUI's own server
    ("nodes/ui/curve_route.py", "asyncio"): {"to_thread"},
    ("nodes/ui/kept_texts.py", "aiohttp"): {"web"},  # likewise
}
NEVER = re.compile(
    r"torch\.(hub|jit|package|multiprocessing|distributed|serialization|classes|ops|utils\.(cpp_extension|model_zoo))\b"
    r"|numpy\.(load|lib|ctypeslib|f2py|distutils)\b|comfy\.utils\.load_torch_file\b|.*\.\*$"
)
# names that run code or commands or reach a network, whoever owns them
RUNS = re.compile(
    r"eval|compile|exec([lv]p?e?|_module|file)?|spawn([lv]p?e?)?|posix_spawnp?|fork(pty)?|system|popen\d?|startfile|Popen"
    r"|getoutput|check_output|check_call|create_subprocess_\w+|subprocess_\w+|run_path|run_module|run_app|load_library"
    r"|import_module|load_module|load_dynamic|__import__|__builtins__|__subclasses__|__reduce\w*__|read_pickle"
    r"|urlopen|urlretrieve|load_url|load_state_dict_from_url|open_connection|create_connection|client_session"
)
FROM_FOLDER = "transformers.AutoModelForImageClassification.from_pretrained"
FROM_FOLDER_SAYS = {"local_files_only": "True", "trust_remote_code": "False", "use_safetensors": "True"}
BY_CALLS_ALONE = {"torch.load", "importlib.import_module", FROM_FOLDER}  # and those as is_harmless says
OWN_MODULE = r"importlib\.import_module\(f'(\{__name__\}\.[^']*'|\.\{[^']*', __name__)\)"


def name_of(file):
    return file.relative_to(ROOT).as_posix()


def every(paths):
    return pytest.mark.parametrize("file", paths, ids=name_of)


def imported(tree):
    """(name here, path) of what is imported from outside: ("o", "os"), ("load", "torch.load")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name, alias.name
                if alias.asname is None:
                    yield (alias.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def path_of(node, known):
    """The path of an imported name, or of what is taken of one: o.path.join is os.path.join after import os as o."""
    if isinstance(node, ast.Attribute):
        owner = path_of(node.value, known)
        return owner and f"{owner}.{node.attr}"
    return known.get(node.id) if isinstance(node, ast.Name) else None


def may_take(path, file):
    top, _, rest = path.partition(".")
    taken = rest.partition(".")[0]
    if taken in TAKEN_IN.get((file, top), ()):
        return True
    if top in HARMLESS:
        return not NEVER.match(path)
    return taken in TAKEN.get(top, ()) or not taken and (top in TAKEN or (file, top) in TAKEN_IN)


def is_harmless(call, path):
    """Of calls under the names above: patterns, a network's eval(), modules of this project, weights and no code."""
    if path == "torch.load":
        return any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in call.keywords)
    if path == FROM_FOLDER:
        said = {word.arg: ast.unparse(word.value) for word in call.keywords}
        return FROM_FOLDER_SAYS.items() <= said.items() and None not in said
    if path == "importlib.import_module":
        return re.fullmatch(OWN_MODULE, ast.unparse(call))
    return path == "re.compile" or ast.unparse(call).endswith(".eval()")


def wrongs(source, file=""):
    """What a module does that what ships must not do."""
    tree = ast.parse(source)
    imports = set(imported(tree))
    known = dict(imports)
    yield from (f"imports {path}" for _, path in imports if not may_take(path, file))
    yield from (f"calls two things {name}" for name, path in imports if known[name] != path)
    nodes = list(ast.walk(tree))
    owners = {node.value for node in nodes if isinstance(node, ast.Attribute)}
    fine = {node.func for node in nodes if isinstance(node, ast.Call) and is_harmless(node, path_of(node.func, known))}
    for node in nodes:
        path = path_of(node, known)
        if path and not may_take(path, file) or path in BY_CALLS_ALONE and node not in fine:
            yield f"takes {path}"
        if path and path.startswith("transformers") and path != FROM_FOLDER and node not in owners:
            yield f"takes {path}"
        if isinstance(node, ast.Name) and path and path not in HARMLESS and "." not in path and node not in owners:
            yield f"hands on all of {path}"
        said = getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "value", None)
        if isinstance(said, str) and RUNS.fullmatch(said) and node not in fine:
            yield f"says {said}"


@every(MODULES)
def test_no_module_runs_code_or_commands_of_others_or_reaches_a_network(file):
    assert list(wrongs(file.read_text(encoding="utf-8"), name_of(file))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import _pickle",
        "from pickle import loads",
        "import cloudpickle as json",
        "import marshal",
        "import pandas\npandas.read_pickle(file)",
        "table.read_pickle(file)",
        "def f():\n    import subprocess",
        "import multiprocessing",
        "import concurrent.futures",
        "from concurrent import futures",
        "import threading",
        "import ctypes",
        "import runpy",
        "import code",
        "import pty",
        "import socket",
        "import ssl",
        "import urllib.request",
        "import http.client",
        "import requests",
        "import websockets",
        "import webbrowser",
        "import aiohttp",
        "from aiohttp import web",
        "from asyncio import to_thread",
        "import asyncio",
        "from server import *",
        "from torch import *",
        "import builtins\nbuiltins.exec(text)",
        "builtins.eval(text)",
        "eval('1')",
        "run = eval",
        "exec(text)",
        "compile(text, '', 'exec')",
        "__import__(name)",
        "__builtins__['print']",
        "frame.f_globals['__builtins__']",
        "getattr(thing, 'system')('ls')",
        "''.__class__.__base__.__subclasses__()",
        "import os\nos.system('ls')",
        "import os as o\no.system('ls')",
        "import os.path as p\np.os.system('ls')",
        "from os import system",
        "from os import system as walk",
        "import os\nos.execvp('ls', [])",
        "import os\nos.posix_spawn('ls', [], {})",
        "import os\nos.popen('ls')",
        "import os\nos.fork()",
        "import os\nos.remove(file)",
        "import os\ngetattr(os, 'sys' + 'tem')('ls')",
        "import os as o\nvars(o)[name]()",
        "import os as o\nimport re as o",
        "import sys\nsys.modules['os']",
        "import types\ntypes.FunctionType(made, {})",
        "from PIL import ImageShow",
        "loop.create_subprocess_exec('ls')",
        "loop.create_connection(made, 'a')",
        "PromptServer.instance.client_session.get(address)",
        "import importlib\nimportlib.import_module(name)",
        "import importlib\nimportlib.import_module(name, __name__)",
        "import importlib\nimportlib.import_module(f'{name}.{__name__}')",
        "from importlib import import_module as get\nget(name)",
        "import importlib.util",
        "import torch\ntorch.load(file)",
        "import torch\ntorch.load(file, weights_only=False)",
        "import torch\ntorch.load(file, weights_only=only)",
        "import torch as t\nt.load(file)",
        "from torch import load\nload(file)",
        "from torch import load as read\nread(file, weights_only=False)",
        "import torch\nread = torch.load",
        "from torch.serialization import load",
        "import torch\ntorch.hub.load('a/b', 'c')",
        "import torch.hub",
        "from torch import hub",
        "from torch.hub import load_state_dict_from_url as get",
        "import torch\ntorch.jit.load(file)",
        "from torch import jit",
        "import torch\ntorch.compile(network)",
        "import torch\ntorch.ops.load_library(file)",
        "from torch.utils import cpp_extension",
        "from torch import distributed",
        "import torch.distributed.rpc",
        "import numpy as np\nnp.load(file, allow_pickle=True)",
        "from numpy import load",
        "import comfy.utils\ncomfy.utils.load_torch_file(file)",
        "table.eval(text)",
    ],
)
def test_the_search_finds_what_it_looks_for(source):
    assert list(wrongs(source, "guidance_core/anything.py"))


FROM = "from transformers import AutoModelForImageClassification as A"
SAFE = ", ".join(f"{word}={value}" for word, value in FROM_FOLDER_SAYS.items())
OTHER_USES = [
    "A.from_pretrained(folder)",
    f"A.from_pretrained(folder, {SAFE.replace('trust_remote_code=False', 'trust_remote_code=True')})",
    f"A.from_pretrained(folder, {SAFE.replace('local_files_only=True', 'local_files_only=online')})",
    f"A.from_pretrained(folder, {SAFE.replace(', use_safetensors=True', '')})",
    f"A.from_pretrained(folder, {SAFE}, **more)",
    "A.from_config(config, trust_remote_code=True)",
    "A.register(config, network)",
    "read = A.from_pretrained",
    "use(A)",
]


def test_the_one_call_of_transformers_passes():
    assert list(wrongs(f"{FROM}\nA.from_pretrained(folder, {SAFE}, dtype=t)", "nodes/host/image_folders.py")) == []
    assert list(wrongs(FROM, "nodes/host/anything.py"))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("nodes/ui/curve_route.py", "from aiohttp import ClientSession"),
        ("nodes/ui/curve_route.py", "import aiohttp\naiohttp.request('GET', address)"),
        ("nodes/ui/curve_route.py", "from aiohttp import web\nweb.run_app(app)"),
        ("nodes/ui/curve_route.py", "from asyncio import create_subprocess_exec"),
        ("nodes/ui/curve_route.py", "import asyncio\nasyncio.open_connection('a', 1)"),
        ("nodes/host/image_folders.py", "from transformers import AutoModel"),
        ("nodes/host/image_folders.py", "import transformers\ntransformers.pipeline('image-classification')"),
        *(("nodes/host/image_folders.py", f"{FROM}\n{use}") for use in OTHER_USES),
        ("guidance_core/classifier/adm_import.py", "from pickle import loads"),
        ("guidance_core/classifier/adm_import.py", "import pickle as p\np.load(file)"),
        ("guidance_core/distributed.py", "import torch\ntorch.hub.load('a/b', 'c')"),
    ],
)
def test_a_file_that_may_take_one_thing_may_take_no_other(file, source):
    assert list(wrongs(source, file))


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.path.join(os.environ['HOME'], 'a')",
        "from os import path, walk",
        "import os.path as p\np.join('a', 'b')",
        "import re\nre.compile('a')",
        "network.eval()",
        "network.to('cpu').eval().requires_grad_(False)",
        "import json\njson.loads(text)",
        "import torch\ntorch.load(file, map_location='cpu', weights_only=True)",
        "from torch import load\nload(file, weights_only=True)",
        "from torch.nn import functional as F\nF.pad(x, (0, 1))",
        "import importlib\nimportlib.import_module(f'{__name__}.{name}')",
        "import importlib\nimportlib.import_module(f'.{name}', __name__)",
        "from .files import load\nload(file)",
        "NoisyClassifier.load(file)",
        "run.call(execute, 'the system compiles')",
    ],
)
def test_the_search_passes_what_does_no_harm(source):
    assert list(wrongs(source, "guidance_core/anything.py")) == []


ROUTES = {
    "/guidance_kit/schedule",
    "/guidance_kit/texts",
    "/i18n",
}  # the pack's own, and the one of ComfyUI's that has the nodes' texts
PLACES = r"\./[\w.]+|\.\./\.\./\.\./scripts/[\w.]+"  # of modules: beside the script, and the front end's own
SCRIPT_RUNS = (
    r"\b(?:eval|Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|srcdoc|importScripts"
    r"|XMLHttpRequest|WebSocket|EventSource|sendBeacon|Worker|RTCPeerConnection|window\.open|src|href|location)\b"
    r"|[\"'`](?:script|iframe|link|object|embed|javascript:)|set(?:Timeout|Interval)\s*\(\s*[\"'`]"
)


def script_wrongs(text):
    """What a script of the page does that none may: makes markup or code of data, or loads or asks elsewhere."""
    yield from re.findall(SCRIPT_RUNS, text)
    yield from set(re.findall(r"""["'`]((?:\w+:)?//[^"'`]+)""", text)) - {"http://www.w3.org/2000/svg"}  # a mere name
    yield from re.findall(r"\bimport\s*\(\s*[^\"'\s].*", text)
    places = re.findall(r"\b(?:from|import)\s*\(?\s*[\"']([^\"']*)", text)
    yield from (place for place in places if not re.fullmatch(PLACES, place))
    constants = dict(re.findall(r'\bconst (\w+) = "([^"]*)"', text))
    for name, asked in re.findall(r"(\w*fetch\w*)(\s*\([^,)]*|\))?", text, re.IGNORECASE):
        route = asked.strip('( "')
        if name != "fetchApi" or asked != ")" and constants.get(route, route) not in ROUTES:
            yield f"{name}{asked}"


@every(SCRIPTS)
def test_no_script_of_the_page_makes_markup_or_code_of_data_or_reaches_elsewhere(file):
    assert list(script_wrongs(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "eval(text)",
        "(0, eval)(text)",
        "new Function(text)",
        "Function(text)()",
        "setTimeout('run()', 1)",
        "element.innerHTML = text",
        "document.createElement('script')",
        "picture.src = address",
        "window.open(address)",
        "location = address",
        "import('https://a.b/c.js')",
        "import('//a.b/c.js')",
        "import(address)",
        "import(`./${name}.js`)",
        'import "/a/b.js"',
        'import { a } from "../../elsewhere/a.js"',
        "const a = 'wss://a.b'",
        'fetch("/guidance_kit/schedule")',
        "const get = fetch;",
        "api.fetchApi('/prompt')",
        "api.fetchApi(address)",
        'api.fetchApi("/guidance_kit/schedule/../../x")',
        "api.fetchApi(`/${name}`)",
        'const ROUTE = "/prompt";\napi.fetchApi(ROUTE)',
        "const get = api.fetchApi;",
        "api.fetchApi.call(api, address)",
        "new XMLHttpRequest()",
        "navigator.sendBeacon(address)",
        "new WebSocket(address)",
    ],
)
def test_the_search_of_scripts_finds_what_it_looks_for(text):
    assert list(script_wrongs(text))


@pytest.mark.parametrize(
    "text",
    [
        'import { a } from "./a.js";',
        'const { app } = await import("../../../scripts/app.js").catch(() => ({}));',
        'const ROUTE = "/guidance_kit/schedule";\nawait api.fetchApi(ROUTE, { method: "POST" });',
        'await api.fetchApi("/i18n")',
        "if (app.api?.fetchApi) {",
        'document.createElementNS("http://www.w3.org/2000/svg", "path")',
        "// a function that is evaluated // twice\nsetTimeout(() => run(), 1)",
    ],
)
def test_the_search_of_scripts_passes_what_does_no_harm(text):
    assert list(script_wrongs(text)) == []


def test_what_ships_is_looked_at_and_of_known_kinds():
    assert len(SCRIPTS) > 3
    assert {"__init__.py", "guidance_core/files.py", "nodes/host/adapter.py"} <= set(map(name_of, MODULES))
    assert {file.suffix for file in shipped("*") if file.is_file()} <= KINDS


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
