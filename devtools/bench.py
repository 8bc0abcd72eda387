"""Runs the benchmarks, a process for each group, against ComfyUI and peers, into `benchmarks/RESULTS.md`."""

import argparse
import subprocess
import sys
import time

from benchmarks import GROUPS
from benchmarks.results import FILE
from devtools import host


def main() -> int:
    """Run the groups asked for, one after the other; what was measured before an interruption is kept."""
    parser = argparse.ArgumentParser(prog="python dev.py bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=GROUPS, help="one group (may be given several times)")
    parser.add_argument("--quick", action="store_true", help="see that it works; kept in output/bench")
    asked = parser.parse_args()
    host.comfyui()
    failed, took = [], {}
    for group in asked.only or GROUPS:
        began = time.monotonic()
        command = [sys.executable, "-m", "benchmarks", group, *(["--quick"] if asked.quick else [])]
        try:
            code = subprocess.run(command, cwd=host.ROOT).returncode
        except KeyboardInterrupt:
            print(f"\nInterrupted in {group}; what was measured is kept.")
            return 130
        if code:
            failed.append(group)
        took[group] = time.monotonic() - began
        print(f"({took[group]:.0f} s)", flush=True)
    parts = ", ".join(f"{group} {seconds:.0f} s" for group, seconds in took.items())
    print(f"{sum(took.values()) / 60:.0f} minutes: {parts}.")
    if failed:
        print(f"Broke off: {', '.join(failed)}; what they printed is above.")
    if not asked.quick:
        print(f"Written: {FILE.relative_to(host.ROOT)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
