"""Which node is being executed, and in which prompt."""

from comfy_execution.utils import get_executing_context
from server import PromptServer


def running_node() -> str | None:
    """The id of the node that is being executed; None where none is."""
    context = get_executing_context()
    return None if context is None else context.node_id


def running_extra() -> dict:
    """What came with the running prompt beside its nodes, such as the workflow from which it was made."""
    context = get_executing_context()
    try:
        for _, running, _, extra, *_ in PromptServer.instance.prompt_queue.get_current_queue_volatile()[0]:
            if context is not None and running == context.prompt_id:
                return dict(extra)
    except (AttributeError, LookupError, TypeError, ValueError):
        pass  # kept otherwise in another ComfyUI: no run may fail for the sake of a text
    return {}


def running_workflow() -> str:
    """The id of the workflow from which the running prompt was made; empty where it has none."""
    return workflow_of(running_extra())


def workflow_of(extra: dict) -> str:
    """The id of the workflow from which a prompt was made, by the prompt's extra data; empty where it has none."""
    try:
        return str(extra["extra_pnginfo"]["workflow"]["id"])
    except (LookupError, TypeError):
        return ""  # asked for by a script
