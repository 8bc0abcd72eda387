"""What each node said last, kept for pages that ask later: after a change of tabs, a reload, a run that was cached."""

import json
from collections import OrderedDict
from hashlib import sha256

from aiohttp import web
from comfy_execution.graph_utils import is_link
from server import PromptServer

from ...guidance_core.frozen import frozen
from ..host.running import workflow_of

PATH = "/guidance_kit/texts"
RESULTS = "guidance_kit_results"  # in a prompt's extra data: what its nodes' results are made of
KEPT = 2000  # texts of all workflows
MOST_LETTERS = 10_000  # of one text
MOST_BYTES = 1000  # of a workflow's id


@frozen
class Text:
    """What a node says. refused: it is why the run has stopped there."""

    text: str
    refused: bool = False


@frozen
class _Kept:
    """A text, the result that it is said of, and the one that was being made as it was said."""

    said: Text
    of: str | None
    by: str | None


_kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()  # by workflow and node, the latest last


def keep(extra: dict, node: str, running: str | None, said: Text) -> None:
    """Keep a node's text in place of the one before; an empty one takes that away.

    extra: of the prompt that runs. running: the node that is executed meanwhile.
    """
    workflow, results = workflow_of(extra), extra.get(RESULTS, {})
    _kept.pop((workflow, node), None)
    if workflow and said.text:
        said = Text(said.text[:MOST_LETTERS], said.refused)
        _kept[workflow, node] = _Kept(said, results.get(node), results.get(running))
    while len(_kept) > KEPT:
        _kept.popitem(last=False)


def kept(workflow: str) -> dict[str, dict]:
    """The texts of a workflow's nodes."""
    return {node: vars(each.said) for (of, node), each in list(_kept.items()) if of == workflow}


def before_run(asked: dict) -> dict:
    """Before a prompt is run: what was wrong in the last one of its workflow may be right by now.

    Where another workflow's run has made the same results, ComfyUI takes them from there, and they say the same here.
    Gives the prompt back.
    """
    extra = asked.get("extra_data")
    workflow = workflow_of(extra)
    try:
        extra[RESULTS] = results = _results(asked["prompt"])
    except (AttributeError, LookupError, TypeError, RecursionError):
        return asked  # ComfyUI says what is wrong with it
    alike: dict[str | None, list[str]] = {}
    for node, result in results.items() if workflow else ():
        alike.setdefault(result, []).append(node)
    for (of, node), each in reversed(list(_kept.items())):
        if of == workflow and each.said.refused:
            _kept.pop((of, node), None)
        elif of != workflow and not each.said.refused and each.by in alike:
            for copy in alike.get(each.of, ()):
                _kept[workflow, copy] = _newer(_kept.get((workflow, copy)), each)
    return asked


def _newer(own: _Kept | None, copied: _Kept) -> _Kept:
    """A node's own text, unless another result was meant."""
    return copied if own is None or own.of != copied.of else own


def _results(prompt: dict) -> dict[str, str]:
    """What each node's result is made of, in one word: its class, its widgets, and what is linked to it."""
    known: dict[str, str] = {}

    def result(node: str) -> str:
        if node not in known:
            known[node] = ""  # of one in a circle, which ComfyUI refuses
            inputs = [
                (name, (result(value[0]), value[1]) if is_link(value) else value)
                for name, value in sorted(prompt[node]["inputs"].items())
            ]
            known[node] = sha256(json.dumps((prompt[node]["class_type"], inputs)).encode()).hexdigest()
        return known[node]

    return {node: result(node) for node in prompt}


def add_route() -> None:
    """Register the route, before ComfyUI's server starts; a second copy of the pack leaves it to the first."""
    server = PromptServer.instance
    if not any(isinstance(route, web.RouteDef) and route.path == PATH for route in server.routes):
        server.routes.post(PATH)(_answer)
        server.add_on_prompt_handler(before_run)


async def _answer(request: web.Request) -> web.Response:
    workflow = await request.content.read(MOST_BYTES)
    return web.json_response(kept(workflow.decode(errors="replace")))
