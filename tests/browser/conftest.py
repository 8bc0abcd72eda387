"""One ComfyUI with our pack and one Chromium for all browser tests."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from devtools import browser as chromium
from devtools.server import ComfyServer

# Console errors that the host logs without any pack, as patterns. Everything else fails the test.
HOST_NOISE = (
    r"404 \(Not Found\) \(\S+/(user\.css|api/userdata[/?])",  # a new user folder lacks what the front end looks for
    r"404 \(Not Found\) \(\S+/docs/\w+/[\w-]+\.md\)",  # help is looked for in the user's language first, then in English
    r"ComfyApp graph accessed before initialization",  # the front end's own start-up
    r"huggingface\.co\S+ violates .* Content Security Policy|missingModelDownload",  # models of its default workflow
)


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


@pytest.fixture(params=[False, True], ids=["canvas", "nodes2"])
def page(request: pytest.FixtureRequest, server: ComfyServer, browser: Browser) -> Iterator[Page]:
    """A fresh page with the app started under one renderer; at the end it must have logged no error."""
    server.set_setting("Comfy.VueNodes.Enabled", request.param)
    opened = browser.new_page(viewport={"width": 1600, "height": 1000})
    errors = []
    opened.on(
        "console", lambda said: errors.append(f"{said.text} ({said.location['url']})") if said.type == "error" else None
    )
    opened.on("pageerror", lambda error: errors.append(f"{error.message}\n{error.stack}"))
    opened.goto(server.url)
    opened.wait_for_function("() => window.graph && app.extensionManager.spinner === false")
    yield opened
    opened.close()
    unexpected = [error for error in errors if not any(re.search(known, error) for known in HOST_NOISE)]
    assert not unexpected, "\n".join(unexpected)
