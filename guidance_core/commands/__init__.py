"""The commands of `python -m guidance_core`, one module each, found by being here.

A command has a docstring of one sentence, which is its help; add_arguments(parser); and run(arguments) -> exit status.
What it refuses is a GuidanceError, which the command line prints.
"""

import argparse
import ast
import importlib
import pkgutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from ..params import params_of
from ..progress import Progress, Result, Work, run_to_end


def sentences() -> dict[str, str]:
    """What each command does, by name, sorted; read from the modules' text, without importing any."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name.replace("_", "-"): _sentence(name) for name in modules}


def command(name: str) -> ModuleType:
    """The module of a command."""
    module = name.replace("-", "_")
    return importlib.import_module(f"{__name__}.{module}")


def _sentence(name: str) -> str:
    text = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]


def add_options(parser: argparse._ActionsContainer, declared: type, names: Iterable[str]) -> None:
    """An option for each of these declared parameters of a dataclass; one that is not given is None."""
    params = params_of(declared)
    for name in names:
        param, option = params[name], f"--{name.replace('_', '-')}"
        text = f"{param.doc} (default: {param.default})".replace("%", "%%")
        if param.kind is bool:
            parser.add_argument(option, action=argparse.BooleanOptionalAction, help=text)
        elif param.kind is tuple:
            parser.add_argument(option, choices=param.options, help=text)
        else:
            parser.add_argument(option, type=param.kind, metavar=param.kind.__name__.upper(), help=text)


class Line:
    """One line of progress on stderr, written over in a terminal; elsewhere every tenth of the way is a line."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.terminal = sys.stderr.isatty()
        self.shown, self.tenth, self.width = 0.0, -1, 0

    def show(self, text: str, done: int, count: int | None, important: bool = False) -> None:
        """`done` of `count` is done; important text is always shown. Where nobody knows the count, each doubling is."""
        tenth = done.bit_length() if count is None else 10 * done // max(count, 1)
        now = time.monotonic()
        due = now - self.shown > 0.1 if self.terminal else tenth > self.tenth
        if self.quiet or not (due or important or done == count):
            return
        self.shown, self.tenth = now, tenth
        if self.terminal:
            sys.stderr.write(f"\r{text:<{self.width}}" + ("\n" if done == count else ""))
            self.width = len(text)
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def run(self, work: Work[Result], text: str) -> Result:
        """The result of work; text tells `{done}` and `{count}` as it goes."""

        def show(progress: Progress) -> None:
            self.show(text.format_map(vars(progress)), progress.done, progress.count)

        return run_to_end(work, show)

    def say(self, text: str) -> None:
        """A line of its own."""
        if not self.quiet:
            sys.stderr.write(f"{text}\n")
