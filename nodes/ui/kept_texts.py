"""What each node said last, kept for pages that ask later: after a change of tabs, a reload, a run that was cached."""

from collections import OrderedDict
from copy import deepcopy

from aiohttp import web
from server import PromptServer

from ...guidance_core.frozen import frozen

PATH = "/guidance_kit/texts"
KEPT = 2000  # texts of all workflows
MOST_LETTERS = 10_000  # of one text
MOST_BYTES = 1000  # of a workflow's id
COMPARED = 32  # workflows whose prompts are remembered


@frozen
class Text:
    """What a node says. refused: it is why the run has stopped there."""

    text: str
    refused: bool = False


_kept: OrderedDict[tuple[str, str], Text] = OrderedDict()  # by workflow and node, the latest last
_prompts: OrderedDict[str, dict] = OrderedDict()  # the last of each workflow


def keep(workflow: str, node: str, said: Text) -> None:
    """Keep a node's text in place of the one before; an empty one takes that away."""
    _kept.pop((workflow, node), None)
    if workflow and said.text:
        _kept[workflow, node] = Text(said.text[:MOST_LETTERS], said.refused)
    while len(_kept) > KEPT:
        _kept.popitem(last=False)


def kept(workflow: str) -> dict[str, dict]:
    """The texts of a workflow's nodes."""
    return {node: vars(said) for (of, node), said in list(_kept.items()) if of == workflow}


def before_run(asked: dict) -> dict:
    """Before a prompt is run: what was wrong in the last one of its workflow may be right by now.

    A copy of a workflow that has run says the same, since ComfyUI takes its results from there. Gives the prompt back.
    """
    try:
        workflow = str(asked["extra_data"]["extra_pnginfo"]["workflow"]["id"])
        # a copy, since ComfyUI writes into the prompt that it runs; titles change no result
        prompt = {node: deepcopy((each["class_type"], each["inputs"])) for node, each in asked["prompt"].items()}
    except (AttributeError, LookupError, TypeError):
        return asked  # by a script
    copied = next((other for other, theirs in _prompts.items() if other != workflow and theirs == prompt), workflow)
    for (of, node), said in list(_kept.items()):
        if of == workflow and said.refused:
            _kept.pop((of, node), None)
        elif of == copied and not said.refused:
            _kept.setdefault((workflow, node), said)
    _prompts.pop(workflow, None)
    _prompts[workflow] = prompt
    while len(_prompts) > COMPARED:
        _prompts.popitem(last=False)
    return asked


def add_route() -> None:
    """Register the route, before ComfyUI's server starts; a second copy of the pack leaves it to the first."""
    server = PromptServer.instance
    if not any(isinstance(route, web.RouteDef) and route.path == PATH for route in server.routes):
        server.routes.post(PATH)(_answer)
        server.add_on_prompt_handler(before_run)


async def _answer(request: web.Request) -> web.Response:
    workflow = await request.content.read(MOST_BYTES)
    return web.json_response(kept(workflow.decode(errors="replace")))
