"""Run Guidance Kit from a clean clone: `python dev.py demo | serve | test | bench`.

Needs Python 3.10 to 3.13 and nothing else. The first start makes `.venv` in this folder and installs the pinned
development requirements into it; every later start finds them there and begins at once.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOCK = ROOT / "requirements-dev-lock.txt"
REQUIREMENTS = [ROOT / "requirements.txt", ROOT / "requirements-dev.txt"]
STAMP = VENV / "installed-{}.{}".format(*sys.version_info)

COMMANDS = {
    "demo": "run the example workflows in a real ComfyUI and save their pictures",
    "serve": "start a ComfyUI that has this pack, and keep it running until Ctrl-C",
    "test": "check the style and run the tests (test --help lists the suites)",
    "bench": "run the side-by-side benchmarks",
}


def main() -> int:
    """Prepare `.venv`, then run `devtools.<command>` in it with its exit status as ours."""
    listing = "\n".join(f"  {name:6} {does}" for name, does in COMMANDS.items())
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=f"commands:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command", nargs="?", help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="handed on to the command")
    asked = parser.parse_args()
    if asked.command is None:
        parser.print_help()
        return 0
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        sys.exit(f"dev.py needs Python 3.10 to 3.13, this is {sys.version.split()[0]}; start it with another one.")
    install()
    command = [str(PYTHON), "-m", f"devtools.{asked.command}", *asked.arguments]
    os.chdir(ROOT)
    if os.name != "nt":
        os.execv(PYTHON, command)  # the command takes this process's place, signals included
    return run(*command)


def install() -> None:
    """Bring `.venv` up to date, or leave with a sentence that says why it cannot be done.

    First what requirements-dev-lock.txt lists, each file checked by its hash; then nothing is left to fetch but torch.
    The stamp is removed before anything changes and written after everything is in place, so that an install that was
    cut short is done over. A changed requirement is installed over the old one; without a stamp `.venv` is made anew.
    """
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in [LOCK, *REQUIREMENTS])).hexdigest()
    if not (STAMP.is_file() and PYTHON.exists()):
        print(f"Making {VENV} (once; its packages are about 2 GB and take some minutes).", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        try:
            venv.create(VENV, with_pip=True, symlinks=os.name != "nt")
        except subprocess.CalledProcessError:
            sys.exit("This Python has no ensurepip, which .venv needs; on Debian or Ubuntu install python3-venv.")
    elif STAMP.read_text() == wanted:
        return
    STAMP.unlink(missing_ok=True)
    files = [argument for path in REQUIREMENTS for argument in ("-r", path)]
    quiet = [] if sys.stdout.isatty() else ["--quiet"]  # before somebody's eyes pip shows what it is at
    for listed in (["--no-deps", "--require-hashes", "-r", LOCK], files):
        if run(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", *quiet, *listed):
            sys.exit("pip could not install the development requirements; its own message is above.")
    STAMP.write_text(wanted)


def run(*command: object) -> int:
    """Run a command in the repository and return its exit status; Ctrl-C is the command's to answer."""
    process = subprocess.Popen([str(part) for part in command], cwd=ROOT)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main())
