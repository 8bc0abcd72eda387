"""Subgraph blueprints: parts of graphs that ComfyUI offers as one node, written like the examples."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from devtools.host import ROOT
from devtools.workflows.canvas import Canvas, Output
from devtools.workflows.groups import MARGIN

FOLDER = ROOT / "subgraphs"
INPUT, OUTPUT = -10, -20  # ids of a subgraph's two ends
NAMES = uuid.UUID("5d0c31a4-8f66-4f0d-9a0b-6a5b8a4a6c1e")  # that of each blueprint is derived from this
SIDE, ROW, END = 260, 20, 140  # pixels: the node's width, a row of it, the width of an end


@dataclass
class Ends:
    """What a subgraph takes and gives. Inputs that are widgets of inner nodes are so of the outer one."""

    node: dict = field(default_factory=lambda: {"id": INPUT, "outputs": []})
    values: dict[str, object] = field(default_factory=dict)  # of widgets
    given: list[tuple[str, Output]] = field(default_factory=list)

    def take(self, name: str, type_: str) -> Output:
        """A socket."""
        self.node["outputs"].append({"name": name, "type": type_, "links": []})
        return Output(self.node, len(self.node["outputs"]) - 1)

    def ask(self, name: str, type_: str, value: object) -> Output:
        """A widget with its first value."""
        self.values[name] = value
        return self.take(name, type_)

    def give(self, name: str, output: Output) -> None:
        """An output."""
        self.given.append((name, output))


def ksampler_with_interval_cfg(canvas: Canvas, ends: Ends) -> None:
    """A KSampler whose CFG acts in the middle of the run alone, so that the other steps take one pass, not two."""
    model = ends.take("model", "MODEL")
    conditions = {name: ends.take(name, "CONDITIONING") for name in ("positive", "negative")}
    latent = ends.take("latent_image", "LATENT")
    scale = ends.ask("scale", "FLOAT", 7.0)
    sampling = {"seed": ends.ask("seed", "INT", 0), "steps": ends.ask("steps", "INT", 25)}
    with canvas.group("CFG in an interval of sigma"):
        window = {"axis": "sigma", "start": 5.42, "end": 0.28}
        when = canvas.node("GuidanceKitScaleSchedule", room=150, shape="interval", axis=window)
        canvas.column()
        guided = canvas.node("GuidanceKitCFGCombine", room=60, model=model, scale=scale, schedule=when)
        sampled = canvas.node("KSampler", model=guided, **conditions, latent_image=latent, **sampling, cfg=1.0)
    ends.give("LATENT", sampled)


def train_and_guide(canvas: Canvas, ends: Ends) -> None:
    """A folder of pictures against the model's own samples: a classifier is trained, and steers at once."""
    model, vae = ends.take("model", "MODEL"), ends.take("vae", "VAE")
    conditions = {name: ends.take(name, "CONDITIONING") for name in ("positive", "negative")}
    latent = ends.take("latent_image", "LATENT")
    label = ends.ask("label", "STRING", "three")
    folder = {
        "folder": ends.ask("folder", "COMBO", "digits demo/three"),
        "width": ends.ask("width", "INT", 128),
        "height": ends.ask("height", "INT", 128),
    }
    own, seed = ends.ask("own_samples", "INT", 64), ends.ask("seed", "INT", 0)
    steps, scale = ends.ask("training_steps", "INT", 400), ends.ask("classifier_scale", "FLOAT", 4.0)
    with canvas.group("Learn"):
        pictures = canvas.node("GuidanceKitLabelledFolder", room=60, vae=vae, label=label, **folder)
        many = canvas.node("RepeatLatentBatch", samples=latent, amount=own)
        drawn = canvas.node(
            "KSampler", "The model's own samples", model=model, **conditions, latent_image=many, cfg=1.0
        )
        examples = canvas.node(
            "GuidanceKitLabelledLatents", room=60, **{"latents.latent0": drawn}, examples=pictures, labels="other"
        )
        canvas.column()
        trained = canvas.node("GuidanceKitTrainNoisyClassifier", model=model, examples=examples, steps=steps)
    with canvas.group("Guide"):
        sampled = canvas.node(
            "GuidanceKitClassifierGuidanceSampler",
            model=model,
            classifier=trained,
            **conditions,
            latent_image=latent,
            seed=seed,
            target=label,
            classifier_scale=scale,
        )
    ends.give("LATENT", sampled)
    ends.give("classifier", trained)


BLUEPRINTS: dict[str, Callable[[Canvas, Ends], None]] = {
    "KSampler with interval CFG": ksampler_with_interval_cfg,
    "Train and guide": train_and_guide,
}


def blueprint(name: str, object_info: dict[str, dict]) -> dict:
    """A blueprint as the front end publishes it: a workflow of one node, which is the subgraph."""
    canvas, ends = Canvas(name, object_info), Ends()
    BLUEPRINTS[name](canvas, ends)
    inner = canvas.workflow()
    links = [dict(zip(LINK, link, strict=True)) for link in inner["links"]]
    for slot, (_, output) in enumerate(ends.given):
        link_id, origin = len(links) + 1, output.node["outputs"][output.index]
        origin["links"].append(link_id)
        place = [output.node["id"], output.index, OUTPUT, slot, origin["type"]]
        links.append(dict(zip(LINK, [link_id, *place], strict=True)))
    identity = str(uuid.uuid5(NAMES, name))
    taken = ends.node["outputs"]
    given = [(each, output.node["outputs"][output.index]) for each, output in ends.given]
    right = max(group["bounding"][0] + group["bounding"][2] for group in inner["groups"])
    subgraph = {
        "id": identity,
        "version": 1,
        "state": {"lastGroupId": 0, "lastNodeId": len(inner["nodes"]), "lastLinkId": len(links), "lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "name": name,
        "inputNode": {"id": INPUT, "bounding": [-END - MARGIN, 0, END, ROW * (len(taken) + 2)]},
        "outputNode": {"id": OUTPUT, "bounding": [right + MARGIN, 0, END, ROW * (len(given) + 2)]},
        "inputs": [_end(name, socket["name"], socket["type"], socket["links"]) for socket in taken],
        "outputs": [
            _end(
                name,
                each,
                socket["type"],
                [link["id"] for link in links if link["target_id"] == OUTPUT][slot : slot + 1],
            )
            for slot, (each, socket) in enumerate(given)
        ],
        "widgets": [],
        "nodes": inner["nodes"],
        "groups": inner["groups"],
        "links": links,
        "extra": {},
        "description": BLUEPRINTS[name].__doc__,
    }
    node = {
        "id": 1,
        "type": identity,
        "title": name,
        "pos": [0, 0],
        "size": [SIDE, ROW * (len(taken) + 2) + ROW * len(ends.values)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [_socket(socket, ends.values) for socket in taken],
        "outputs": [{"name": each, "type": socket["type"], "links": []} for each, socket in given],
        "properties": {"proxyWidgets": [["-1", each] for each in ends.values]},
        "widgets_values": [*ends.values.values()],
    }
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [node],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [subgraph]},
        "extra": {"BlueprintDescription": BLUEPRINTS[name].__doc__},
    }


LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def _socket(socket: dict, values: dict) -> dict:
    widget = {"widget": {"name": socket["name"]}} if socket["name"] in values else {}
    return {"name": socket["name"], "type": socket["type"], **widget, "link": None}


def _end(blueprint_name: str, name: str, type_: str, links: list[int]) -> dict:
    identity = str(uuid.uuid5(NAMES, f"{blueprint_name}/{name}/{type_}"))
    return {"id": identity, "name": name, "type": type_, "linkIds": links}
