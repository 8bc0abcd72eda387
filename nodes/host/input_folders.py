"""The folders in ComfyUI's input folder, listed anew only where one of them has changed: schemas ask many times."""

import math
import os
import time
from dataclasses import replace

import folder_paths

from ...guidance_core.errors import printable
from ...guidance_core.frozen import frozen


@frozen
class _Listing:
    """The folders below a root by name, when each was last changed before it was listed, and when all that was true."""

    root: str = ""
    names: tuple[str, ...] = ()
    changes: tuple[tuple[str, int | None], ...] = ()
    seen: float = -math.inf


_last = _Listing()


def input_folders(recent: float = 0.0) -> tuple[str, ...]:
    """Every folder below ComfyUI's input folder, as its path from there with `/`, sorted; links are not followed,
    and names that are not UTF-8 left out, since no menu can hold them.

    recent: for how many seconds an earlier answer will do.
    """
    global _last
    root, now = folder_paths.get_input_directory(), time.monotonic()
    if _last.root != root or now >= _last.seen + recent:
        still = _last.root == root and all(_changed(place) == at for place, at in _last.changes)
        _last = replace(_last, seen=now) if still else _listed(root, now)
    return _last.names


def _listed(root: str, now: float) -> _Listing:
    changes, names = [(root, _changed(root))], []
    for place, inner, _ in os.walk(root):
        for path in (os.path.join(place, name) for name in inner):
            if not os.path.islink(path):
                changes.append((path, _changed(path)))  # before os.walk looks into it
                name = os.path.relpath(path, root).replace(os.sep, "/")
                if printable(name) == name:
                    names.append(name)
    return _Listing(root, tuple(sorted(names)), tuple(changes), now)


def _changed(place: str) -> int | None:
    """None for a folder that is gone, or that the server may not look at."""
    try:
        return os.stat(place).st_mtime_ns
    except OSError:
        return None
