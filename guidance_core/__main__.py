"""The command line: `guidance-kit <command>`, or `python -m guidance_core <command>`, see guidance_core.commands."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .commands import command, sentences
from .errors import GuidanceError, OwnError
from .params import check_known
from .version import __version__

NEEDED = {"torch": "torch", "numpy": "numpy", "safetensors": "safetensors", "PIL": "pillow"}  # module: package


def main(words: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 2 for what was refused, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        arguments = _parsed(words)
        return arguments.run(arguments)
    except (GuidanceError, OSError) as error:  # a folder that may not be written, a full disk: the system's own words
        return _refused(str(error), isinstance(error, OwnError))
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        return _refused(f"This needs {NEEDED[error.name]}, which is not installed: pip install 'guidance-kit[core]'.")
    except KeyboardInterrupt:
        return 130


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    """The arguments. Only the module of the command that is asked for is imported, and none for the overview."""
    parser = argparse.ArgumentParser(
        prog="guidance-kit" if Path(sys.argv[0]).stem == "guidance-kit" else "python -m guidance_core",
        description="Guidance for diffusion sampling: train, judge and use classifiers.",
    )
    parser.add_argument("--version", action="version", version=f"guidance-kit {__version__}")
    chosen = parser.add_subparsers(required=True, metavar="command")
    asked = words[0] if words else ""
    if asked and not asked.startswith("-"):
        check_known("command", asked, sentences())
    for name, sentence in sentences().items():
        one = chosen.add_parser(name, help=sentence, description=sentence)
        if name == asked:
            module = command(name)
            module.add_arguments(one)
            one.set_defaults(run=module.run)
    return parser.parse_args(words)


def _refused(sentence: str, own: bool = False) -> int:
    if own or os.environ.get("RANK", "0") == "0":  # of the processes that torchrun started, one speaks for all
        sys.stderr.write(f"{sentence}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
