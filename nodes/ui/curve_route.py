"""Answers the front end with the curve of the values that a Scale Schedule shows, before anything runs."""

import asyncio
import json
from dataclasses import replace

from aiohttp import web
from server import PromptServer

from ...guidance_core.errors import GuidanceError
from ...guidance_core.frozen import frozen
from ...guidance_core.params import Checked, choice, make, number
from ...guidance_core.scale import ScaleSchedule, effective_scale
from ..host.noise_levels import Asked
from ..scale_schedule import schedule_of, shown_name
from .curve import STABLE_DIFFUSION, curve_of, example_run

PATH = "/guidance_kit/schedule"
MOST_BYTES = 1 << 16  # of a question
MOST_SHOWN = 1000  # steps; of longer runs the curve is drawn over this many, and no steps are told


@frozen
class Use(Checked):
    """What a schedule drives: CFG at its scale, a classifier, or something else."""

    drives: str = choice("", ("", "cfg", "classifier"), "What the schedule is connected to.")
    scale: float = number(2.0, -1e6, 1e6, 0.01, "CFG's scale.")

    def acts(self, strength: float) -> bool:
        """Whether a step at this strength runs the passes that guidance costs."""
        if self.drives == "cfg":
            return effective_scale(self.scale, strength) not in (0.0, 1.0)
        return abs(strength) >= 1e-6

    def told(self, acting: list[bool]) -> str:
        """How many steps it acts in, and in how many it does not."""
        words = {"cfg": ("guided", "single-pass"), "classifier": ("steered", "not steered"), "": ("on", "off")}
        counts = (sum(acting), len(acting) - sum(acting))
        return ", ".join(f"{n} {word}" for n, word in zip(counts, words[self.drives], strict=True) if n)


def add_route() -> None:
    """Register the route, before ComfyUI's server starts; a second copy of the pack leaves it to the first.

    Two routes of one path would keep the server from starting.
    """
    routes = PromptServer.instance.routes
    if not any(isinstance(route, web.RouteDef) and route.path == PATH for route in routes):
        routes.post(PATH)(_answer)


async def _answer(request: web.Request) -> web.Response:
    try:
        body = _read(await _content(request))
    except GuidanceError as error:
        return web.json_response({"error": str(error)}, status=400)
    try:
        return web.json_response(await asyncio.to_thread(drawing, body))
    except GuidanceError as error:  # an answer too: browsers would log another status than 200 as an error
        return web.json_response({"error": str(error)})


async def _content(request: web.Request) -> bytes:
    """The bytes of a question, which may come in chunks, of a length that nobody has said."""
    content = b""
    async for chunk in request.content.iter_chunked(MOST_BYTES):
        content += chunk
        if len(content) > MOST_BYTES:
            raise GuidanceError(f"a question about a curve may have {MOST_BYTES} bytes at most.")
    return content


def _read(body: bytes) -> dict:
    try:
        read = json.loads(body, parse_int=float)
    except (ValueError, RecursionError) as error:
        raise GuidanceError(f"a question about a curve must be JSON ({error}).") from error
    if not isinstance(read, dict) or not isinstance(read.get("inputs"), dict):
        raise GuidanceError("a question about a curve must hold the node's values as 'inputs'.")
    for name in ("run", "use"):
        if not isinstance(read.get(name, {}), dict):
            raise GuidanceError(f"'{name}' in a question about a curve must be an object.")
    return read


def drawing(body: dict) -> dict:
    """The curve that the node's values make, over the run that the graph tells of.

    body: inputs, the values as a prompt has them ("shape", "shape.exponent", ...); curve, what a Curve Editor holds;
    run, what is known of it (see Asked; nothing where no sampler is found); use (see Use).
    """
    shape, axis = _group(body["inputs"], "shape"), _group(body["inputs"], "axis")
    flags = {name: body["inputs"].get(name, False) for name in ("reverse", "preserve_mean")}
    schedule, use = schedule_of(shape, axis, **flags, curve=body.get("curve")), make(Use, "use", body.get("use", {}))
    if "run" in body:
        run, note = make(Asked, "run", body["run"]).run()
    else:
        run, note = example_run(schedule), STABLE_DIFFUSION
    count, strengths = len(run.levels), []
    if count > MOST_SHOWN:
        run = replace(run, sigmas=(*run.levels[:: -(-count // MOST_SHOWN)], 0.0))
    elif "run" in body:
        strengths = list(map(schedule.over(run), run.levels))
    acting = list(map(use.acts, strengths))
    curve = curve_of(schedule, run, shown_name(shape, body.get("curve")))
    return {
        "title": curve.title,
        "places": _short(curve.places),
        "strengths": _short(curve.strengths),
        "range": [curve.low, curve.high],
        "ticks": curve.ticks,
        "steps": _short(strengths),
        "acting": acting,
        "caption": _caption(schedule, count if "run" in body else 0, use.told(acting), note),
    }


def _group(inputs: dict, name: str) -> dict:
    """The values of a dynamic combo, {"shape": ..., "exponent": ...}, out of a prompt's flat ones."""
    nested = {key.removeprefix(f"{name}."): value for key, value in inputs.items() if key.startswith(f"{name}.")}
    return nested | {key: value for key, value in inputs.items() if key == name}


def _caption(schedule: ScaleSchedule, steps: int, told: str, note: str) -> str:
    words = f"{steps} step{'s' * (steps > 1)}{': ' * bool(told)}{told}" if steps else "no sampler connected yet"
    return words if schedule.axis == "step" or not note else f"{words}, {note}"


def _short(values) -> list[float]:
    return [round(value, 6) for value in values]
