"""How nodes speak: text on the node, and errors that begin with the node's name."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from server import PromptServer

from ...guidance_core.errors import GuidanceError
from .plain_text import plain, visible

GuidanceError.__module__ = "Guidance Kit"  # ComfyUI shows it above the sentence; a pack's own is the path of a file

_heading: ContextVar[str] = ContextVar("heading", default="")


def say(node_id: str | None, text: str) -> None:
    """Show text on a node, as it is written: what comes from files makes no link and hides nothing."""
    if node_id is not None and PromptServer.instance is not None:
        PromptServer.instance.send_progress_text(plain(f"{_heading.get()}\n{text}".strip()), node_id)


@contextmanager
def headed(heading: str) -> Iterator[None]:
    """Begin every text that nodes show inside with a line of its own."""
    before = _heading.set(heading)
    try:
        yield
    finally:
        _heading.reset(before)


@contextmanager
def speaking_as(title: str) -> Iterator[None]:
    """Begin every GuidanceError raised inside with the node's name, once."""
    try:
        yield
    except GuidanceError as error:
        text = visible(str(error))
        raise GuidanceError(text if text.startswith(f"{title}: ") else f"{title}: {text}") from error
