"""Prints the peak memory in MB of a process that runs a pass, or a pass and a gradient of a judge of clean pictures.

`python -m benchmarks.clean_peak KIND WIDTH SIDE`. KIND: pass, term (at the prediction), through (the model as well).
"""

import sys

from . import host
from .peak import peak


def main(kind: str, width: str, side: str) -> None:
    """Run once and report."""
    host.enter()
    from .clean_cost import Setting

    sides = Setting(int(width), int(side), quick=int(width) < 320).sides
    if kind != "through":
        sides["pass"]()
    if kind != "pass":
        sides[kind]()
    print(peak())


if __name__ == "__main__":
    main(*sys.argv[1:])
