"""What can be refused before a run, where the front end marks the node: answers of a node's validate_inputs."""

from collections.abc import Callable

from ...guidance_core.errors import GuidanceError
from .plain_text import visible


def allowed(title: str, check: Callable[[], object]) -> bool | str:
    """True, or the sentence of the GuidanceError that a check raises, as the node says it."""
    try:
        check()
    except GuidanceError as error:
        return f"{title}: {visible(str(error))}"
    return True


def choice_of(value: object, name: str) -> str | None:
    """What a dynamic combo is set to; None where another node says it."""
    value = value.get(name) if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def written(title: str, name: str, text: object, example: str) -> bool | str:
    """Whether a text widget has something in it; None is the text of another node, which is not known yet."""
    if isinstance(text, str) and not text.strip():
        return f"{title}: {name} is empty: write {example}."
    return True
