"""Write requirements-dev-lock.txt: `python -m devtools.lock`, after any change of requirements-dev.txt.

uv (`pip install uv`, for this command alone) resolves the development requirements for every Python and system that
dev.py works on, with the hashes of their files. Torch is left out: its file differs with the machine, so that dev.py
installs it by its version.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from devtools.host import ROOT

PINS = ROOT / "requirements-dev.txt"
LOCK = ROOT / "requirements-dev-lock.txt"
HEADER = "# By `python -m devtools.lock` from requirements-dev.txt: all that it needs but torch, by hash.\n"
TORCH = """
[[dependency-metadata]]
name = "torch"
requires-dist = [
    "filelock", "fsspec", "jinja2", "networkx", "setuptools>=77", "sympy>=1.13.3", "typing-extensions>=4.10",
]
"""  # without the libraries of CUDA


def main() -> None:
    uv = shutil.which("uv") or sys.exit("This needs uv: pip install uv")
    with tempfile.TemporaryDirectory() as scratch:
        settings, found = Path(scratch, "uv.toml"), Path(scratch, LOCK.name)
        settings.write_text(TORCH, encoding="utf-8")
        command = [uv, "pip", "compile", str(PINS), "--output-file", str(found), "--config-file", str(settings)]
        command += ["--universal", "--python-version", "3.10", "--generate-hashes", "--no-header", "--no-annotate"]
        command += ["--no-emit-package", "torch", "--quiet"]
        subprocess.run(command, cwd=ROOT, check=True)
        LOCK.write_text(HEADER + found.read_text(encoding="utf-8"), encoding="utf-8")


if __name__ == "__main__":
    main()
