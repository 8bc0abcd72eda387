"""One ComfyUI with our pack and one Chromium for all browser tests."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from devtools import browser as chromium
from devtools.server import ComfyServer


@pytest.fixture(scope="session")
def server() -> Iterator[ComfyServer]:
    """A running ComfyUI with our pack, past the first-visit tutorial."""
    with ComfyServer() as running:
        running.set_setting("Comfy.TutorialCompleted", True)
        yield running


@pytest.fixture(scope="session")
def object_info(server: ComfyServer) -> dict[str, dict]:
    """Every node the server knows."""
    return server.object_info()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium.executable(playwright), args=chromium.FLAGS)
        yield started
        started.close()
