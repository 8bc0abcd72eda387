"""Runs the style checks and the test suites, each in a process of its own, and sums up."""

import argparse
import os
import subprocess
import sys
import time

from devtools import newest_frontend
from devtools.host import ROOT

PYTHON = sys.executable
STYLE = {
    "ruff check": [PYTHON, "-m", "ruff", "check", "."],
    "ruff format": [PYTHON, "-m", "ruff", "format", "--check", "."],
    "mypy": [PYTHON, "-m", "mypy"],
}
SET_UP = {
    "core": {},
    "host": {"ComfyUI": [PYTHON, "-m", "devtools.host"]},
    "browser": {"ComfyUI": [PYTHON, "-m", "devtools.host"], "Chromium": [PYTHON, "-m", "devtools.browser"]},
}
BESIDE = {  # a suite that is run whole: two processes, as each test keeps one core busy; of the host suite file by file
    "core": ["-n", "2", "--dist", "worksteal"],
    "host": ["-n", "2", "--dist", "loadfile"],  # tests of a file build on one server
    "browser": [],
}


def main() -> int:
    """Run what was asked for (nothing named: everything) and return 1 if any of it failed."""
    parser = argparse.ArgumentParser(prog="dev.py test", description=__doc__)
    parser.add_argument("--core", action="store_true", help="tests of guidance_core, without ComfyUI")
    parser.add_argument("--host", action="store_true", help="tests in a real ComfyUI")
    parser.add_argument("--browser", action="store_true", help="example workflows in a real browser")
    parser.add_argument("--slow", action="store_true", help="also the tests marked slow")
    parser.add_argument(
        "--front-end",
        choices=("own", "newest"),
        default="own",
        help="the browser's tests on the front end that ComfyUI asks for, or on the newest that the package index has",
    )
    asked, handed_on = parser.parse_known_args()
    if asked.front_end == "newest":
        folder = newest_frontend.newest()
        os.environ[newest_frontend.FOLDER] = str(folder)
        print(f"Front end: {folder}")

    chosen = [suite for suite in SET_UP if getattr(asked, suite)]
    commands = {} if chosen else dict(STYLE)
    for suite in chosen or SET_UP:
        commands.update(SET_UP[suite])
        beside = [] if handed_on else BESIDE[suite]
        commands[f"tests/{suite}"] = [PYTHON, "-m", "pytest", f"tests/{suite}", *slow(asked), *beside, *handed_on]
    if not chosen and not handed_on:
        commands["tests/core"] += ["--cov"]  # fails below the coverage that .coveragerc asks for

    rows = []
    for name, command in commands.items():
        print(f"\n=== {name}", flush=True)
        began = time.monotonic()
        status = subprocess.run(command, cwd=ROOT, env=environment(name)).returncode
        rows.append((name, status, time.monotonic() - began))

    print("\n=== summary")
    for name, status, seconds in rows:
        print(f"{name:14} {'passed' if status == 0 else 'FAILED':7} {seconds:7.1f} s")
    return int(any(status for _, status, _ in rows))


def slow(asked: argparse.Namespace) -> list[str]:
    """Pytest's own default, in pyproject.toml, leaves the slow tests out."""
    return ["-m", ""] if asked.slow else []


def environment(name: str) -> dict[str, str]:
    """The core suite sees no ComfyUI: neither a path to one nor a search path from outside.

    One thread each: the tests' tensors are so small that several threads cost more than they bring.
    """
    hidden = {"COMFYUI_PATH", "PYTHONPATH"} if name == "tests/core" else set()
    return {key: value for key, value in os.environ.items() if key not in hidden} | {"OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    sys.exit(main())
