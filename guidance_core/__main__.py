"""The command line: `python -m guidance_core <command>`, see guidance_core.commands."""

import argparse
import os
import sys
from collections.abc import Sequence

from . import __doc__ as about
from .commands import commands
from .errors import GuidanceError


def main(words: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 2 for what was refused, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m guidance_core", description=about)
    chosen = parser.add_subparsers(required=True, metavar="command")
    for name, module in commands().items():
        command = chosen.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args(words)
    try:
        return arguments.run(arguments)
    except (GuidanceError, OSError) as error:  # a folder that may not be written, a full disk: the system's own words
        if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun started, one speaks for all
            sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
