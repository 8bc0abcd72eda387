"""One ComfyUI with our pack for all host tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.server import ComfyServer

PROBE = Path(__file__).parent / "probe"


@pytest.fixture(scope="session")
def server() -> Iterator[ComfyServer]:
    """A running ComfyUI with our pack, and with the probe pack where there is one."""
    with ComfyServer(packs=[PROBE] if PROBE.is_dir() else []) as running:
        yield running
