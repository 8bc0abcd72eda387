"""Runs the benchmarks, where the repository has any."""

import subprocess
import sys

from devtools.host import ROOT


def main() -> int:
    """Hand over to `python -m benchmarks`."""
    if not (ROOT / "benchmarks" / "__main__.py").is_file():
        print("There are no benchmarks here yet (benchmarks/__main__.py is missing).")
        return 1
    return subprocess.run([sys.executable, "-m", "benchmarks", *sys.argv[1:]], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
