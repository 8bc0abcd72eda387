"""How nodes speak: text on the node, and errors that begin with the node's name."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from server import PromptServer

from ...guidance_core.errors import GuidanceError
from ..host.running import running_extra, running_node, workflow_of
from .kept_texts import Text, keep
from .plain_text import visible

GuidanceError.__module__ = "Guidance Kit"  # ComfyUI shows it above the sentence; a pack's own is the path of a file

EVENT = "guidance_kit.text"  # to web/js/run_texts.js

_heading: ContextVar[str] = ContextVar("heading", default="")


def say(node_id: str | None, text: str) -> None:
    """Show text on a node in place of what it said before; an empty one takes that away."""
    _send(node_id, Text(visible(f"{_heading.get()}\n{text}".strip())))


def folded(lines: Sequence[str], details: Sequence[str]) -> str:
    """A text for `say` whose details are folded on the node, until someone opens them."""
    return "\n\n".join("\n".join(part) for part in (lines, details) if part)


def _send(node_id: str | None, said: Text) -> None:
    server = getattr(PromptServer, "instance", None)  # none where the pack is imported without a running ComfyUI
    if node_id is None or server is None:
        return
    extra = running_extra()
    keep(extra, node_id, running_node(), said)
    server.send_sync(EVENT, {"workflow": workflow_of(extra), "node": node_id} | vars(said), server.client_id)


@contextmanager
def headed(heading: str) -> Iterator[None]:
    """Begin every text that nodes show inside with a line of its own."""
    before = _heading.set(heading)
    try:
        yield
    finally:
        _heading.reset(before)


@contextmanager
def speaking_as(title: str, node_id: str | None = None) -> Iterator[None]:
    """Begin every GuidanceError raised inside with the node's name, once, and show it on the node that is executed.

    node_id: of the node that speaks, where that is another one, such as CFG Combine while a sampler runs.
    """
    try:
        yield
    except GuidanceError as error:
        text = visible(str(error))
        text = text if text.startswith(f"{title}: ") else f"{title}: {text}"
        for shown_on in {running_node(), node_id}:
            _send(shown_on, Text(text, refused=True))
        raise GuidanceError(text) from error
