"""One ComfyUI with our pack and one Chromium for all browser tests."""

import re
import shutil
from collections.abc import Iterator

import pytest
import torch
from playwright.sync_api import Browser, Page, expect, sync_playwright

from devtools import browser as chromium
from devtools import frontend
from devtools.host import ROOT
from devtools.server import ComfyServer
from guidance_core.null import NullCondition

expect.set_options(timeout=frontend.PATIENCE)  # five seconds, its default, are too few on a busy machine

PROBE = ROOT / "tests" / "host" / "probe"  # its nodes stand in for large models

# Console errors that the host logs without any pack, as patterns. Everything else fails the test.
HOST_NOISE = (
    r"404 \(Not Found\) \(\S+/(user\.css|api/userdata[/?])",  # a new user folder lacks what the front end looks for
    r"404 \(Not Found\) \(\S+/docs/\w+/[\w-]+\.md\)",  # help is looked for in the user's language first
    r"ComfyApp graph accessed before initialization",  # the front end's own start-up
    r"400 \(Bad Request\) \(\S+/prompt\)|PromptExecutionError",  # a prompt that is refused before it runs
    r"api\.comfy\.org\S+ violates .* Content Security Policy",  # it asks a registry which pack a node is of
    r"huggingface\.co\S+ .*violates .* Content Security Policy|missingModelDownload",  # models of its default workflow
    r"(?s)reading 'length'.*WidgetCurve",  # the newest one's preview in the search, of a node with a CURVE input
    r"(?s)NullGraphError.*autogrowInputDisconnected",  # the newest one, where a node with a growing input is deleted
)


class Console:
    """The errors that a page logs or throws, but for the host's own."""

    def __init__(self, page: Page):
        self.errors: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.errors.append(f"{error.message}\n{error.stack}"))

    def _said(self, message) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location['url']})")

    def unexpected(self) -> list[str]:
        """What was logged since the last call."""
        found, self.errors = self.errors, []
        return [error for error in found if not any(re.search(known, error) for known in HOST_NOISE)]


@pytest.fixture(scope="session")
def server() -> Iterator[ComfyServer]:
    """A running ComfyUI with our pack, past the first-visit tutorial, with a file for every list of files."""
    with ComfyServer(packs=[PROBE]) as running:
        running.set_setting("Comfy.TutorialCompleted", True)
        classifiers, nulls = (running.base / "models" / kind for kind in ("noisy_classifiers", "null_conditions"))
        for folder in (classifiers, nulls):
            folder.mkdir(exist_ok=True)
        shutil.copy(ROOT / "guidance_core" / "demo" / "classifier.safetensors", classifiers / "digits.safetensors")
        NullCondition(torch.zeros(1, 2, 3)).save(nulls / "zeros.safetensors")
        images = running.base / "models" / "classifiers"
        (images / "pets").mkdir(parents=True)
        (images / "pets" / "config.json").touch()  # which is what makes a folder one that is listed
        (images / "score.pth").touch()
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


@pytest.fixture(params=frontend.RENDERERS.values(), ids=frontend.RENDERERS)
def page(request: pytest.FixtureRequest, server: ComfyServer, browser: Browser) -> Iterator[Page]:
    """A fresh page with the app started under one renderer; at the end it must have logged no error."""
    opened = frontend.open_page(server, browser, request.param)
    console = Console(opened)
    frontend.start(opened, server)
    yield opened
    opened.close()
    unexpected = console.unexpected()
    assert not unexpected, "\n".join(unexpected)


@pytest.fixture(scope="module")
def _both(server: ComfyServer, browser: Browser) -> Iterator[dict[str, tuple[Page, Console]]]:
    opened = {}
    for renderer, nodes2 in frontend.RENDERERS.items():
        page = frontend.open_page(server, browser, nodes2)
        opened[renderer] = page, Console(page)
        frontend.start(page, server)
    yield opened
    for page, _ in opened.values():
        page.close()


@pytest.fixture
def pages(_both: dict[str, tuple[Page, Console]]) -> Iterator[dict[str, Page]]:
    """A page of each renderer, shared by a module's tests, which must leave no dialog open and log no error."""
    yield {renderer: page for renderer, (page, _) in _both.items()}
    unexpected = [error for _, console in _both.values() for error in console.unexpected()]
    assert not unexpected, "\n".join(unexpected)
