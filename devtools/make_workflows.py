"""Writes the example workflows: `python -m devtools.make_workflows`. Each is a graph laid out here, in UI format 0.4.

The graphs are drafted from the server's own list of nodes, so that a new widget of a node appears in them by itself.
"""

import json
import sys
from dataclasses import dataclass, field

from devtools.host import ROOT
from devtools.server import ComfyServer
from devtools.workflow import Widget, controls, default, option_widgets, to_prompt, widgets

WORKFLOWS = ROOT / "example_workflows"
DIGITS = "zero | one | two | three | four | five | six | seven | eight | nine"


@dataclass
class Canvas:
    """A workflow under construction. `node` places a node; `link` connects two."""

    object_info: dict[str, dict]
    nodes: list[dict] = field(default_factory=list)
    links: list[list] = field(default_factory=list)
    groups: list[dict] = field(default_factory=list)

    def node(
        self, class_type: str, at: tuple[int, int], size: tuple[int, int], title: str = "", inputs=None, **values
    ) -> dict:
        """Add a node. inputs: socket -> (node, slot). values: widgets by name, nested ones such as `axis.start`."""
        spec = self.object_info[class_type]
        node = {
            "id": len(self.nodes) + 1,
            "type": class_type,
            "pos": list(at),
            "size": list(size),
            "flags": {},
            "order": len(self.nodes),
            "mode": 0,
            "inputs": [],
            "outputs": [
                {"name": name, "type": type_, "links": []}
                for name, type_ in zip(spec["output_name"], spec["output"], strict=True)
            ],
            "properties": {"Node name for S&R": class_type},
            "widgets_values": list(_widget_values(spec, dict(values))),
        }
        if title:
            node["title"] = title
        self.nodes.append(node)
        for socket, (source, slot) in (inputs or {}).items():
            self.link(source, slot, node, socket)
        return node

    def link(self, source: dict, slot: int, target: dict, socket: str) -> None:
        """Connect an output to a named input."""
        output = source["outputs"][slot]
        link_id = len(self.links) + 1
        self.links.append([link_id, source["id"], slot, target["id"], len(target["inputs"]), output["type"]])
        target["inputs"].append({"name": socket, "type": output["type"], "link": link_id})
        output["links"].append(link_id)

    def note(self, text: str, at: tuple[int, int], size: tuple[int, int]) -> None:
        """Add a note in Markdown."""
        self.nodes.append(
            {
                "id": len(self.nodes) + 1,
                "type": "MarkdownNote",
                "pos": list(at),
                "size": list(size),
                "flags": {},
                "order": len(self.nodes),
                "mode": 0,
                "inputs": [],
                "outputs": [],
                "properties": {},
                "widgets_values": [text],
            }
        )

    def group(self, title: str, at: tuple[int, int], size: tuple[int, int], color: str = "#3f789e") -> None:
        """Add a titled frame."""
        self.groups.append(
            {"id": len(self.groups) + 1, "title": title, "bounding": [*at, *size], "color": color, "flags": {}}
        )

    def workflow(self) -> dict:
        """The workflow as the front end saves it."""
        return {
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {},
            "version": 0.4,
        }


def _widget_values(spec: dict, values: dict):
    pending: list[Widget] = widgets(spec)
    while pending:
        widget = pending.pop(0)
        value = values.pop(widget.name, None)
        value = default(widget) if value is None else value
        yield value
        if widget.type == "COMFY_DYNAMICCOMBO_V3":
            pending[:0] = option_widgets(widget, value)
        yield from ["fixed"] * controls(widget)
    if values:
        raise ValueError(f"There is no widget {', '.join(values)} on this node.")


def classifier_guidance(canvas: Canvas) -> None:
    """Classifier guidance at four scales: ten digits a row."""
    canvas.note(
        "## Classifier guidance\n"
        "An unconditional model of handwritten digits, steered by a noisy classifier. Every row starts from the same "
        "noise; only **classifier_scale** differs: 0 (no guidance), 1, 2 and 4.\n\n"
        "Each sampler shows a trace: its scales, the log-probability of the target, and the size of the gradient.",
        (0, 0),
        (330, 220),
    )
    digits = canvas.node("GuidanceKitLoadDigitsDemo", (0, 290), (330, 100))
    null = canvas.node(
        "GuidanceKitNullConditionEncoder",
        (0, 450),
        (330, 130),
        inputs={"model": (digits, 0)},
        **{"kind": "class null label"},
    )
    latent = canvas.node("EmptyLatentImage", (0, 700), (330, 106), width=128, height=128, batch_size=10)
    canvas.group("Model, condition, size", (-20, 240), (370, 600))
    samplers = []
    for i, scale in enumerate((0.0, 1.0, 2.0, 4.0)):
        samplers.append(
            canvas.node(
                "GuidanceKitClassifierGuidanceSampler",
                (410 + 380 * i, 50),
                (350, 760),
                title=f"Classifier scale {scale:g}",
                inputs={
                    "model": (digits, 0),
                    "classifier": (digits, 2),
                    "positive": (null, 0),
                    "negative": (null, 0),
                    "latent_image": (latent, 0),
                },
                target=DIGITS,
                classifier_scale=scale,
                seed=1,
                steps=25,
                cfg=1.0,
                sampler_name="ddim",
                scheduler="simple",
            )
        )
    canvas.group("The same noise at four scales", (390, -20), (1530, 850), "#8a6d3b")
    _sheet(canvas, digits, samplers, (1960, 50), "guidance-kit/classifier-guidance")
    canvas.group("One row a scale", (1940, -20), (850, 850), "#3f7a56")


def cfg_interval(canvas: Canvas) -> None:
    """CFG with an interval schedule: nearly the same pictures with fewer passes."""
    canvas.note(
        "## CFG in an interval\n"
        "Row 1: the conditional model alone (CFG off). Row 2: CFG 4 at every step. Row 3: CFG 4 in the middle of the "
        "run only, where guidance matters; outside the interval one pass a step is run instead of two.\n\n"
        "After a run each **CFG Combine** says how many passes it ran. CFG Combine sets the scale in place of the "
        "sampler's cfg.",
        (0, 0),
        (330, 240),
    )
    digits = canvas.node("GuidanceKitLoadDigitsDemo", (0, 310), (330, 100))
    positive = canvas.node(
        "GuidanceKitClassCondition", (0, 470), (330, 80), inputs={"model": (digits, 0)}, label=DIGITS
    )
    null = canvas.node(
        "GuidanceKitNullConditionEncoder",
        (0, 610),
        (330, 130),
        inputs={"model": (digits, 0)},
        **{"kind": "class null label"},
    )
    latent = canvas.node("EmptyLatentImage", (0, 860), (330, 106), width=128, height=128, batch_size=10)
    canvas.group("Model, conditions, size", (-20, 260), (370, 750))
    schedule = canvas.node(
        "GuidanceKitScaleSchedule",
        (410, 710),
        (350, 450),
        **{"shape": "interval", "axis": "sigma", "axis.start": 3.0, "axis.end": 0.4},
    )
    branches = [
        ("CFG off", 1.0, {}),
        ("CFG 4 at every step", 4.0, {}),
        ("CFG 4 in the interval", 4.0, {"schedule": (schedule, 0)}),
    ]
    samplers = []
    for i, (title, scale, extra) in enumerate(branches):
        combine = canvas.node(
            "GuidanceKitCFGCombine",
            (410, 50 + 200 * i),
            (350, 150),
            title=title,
            inputs={"model": (digits, 0), **extra},
            scale=scale,
        )
        sampler = canvas.node(
            "KSampler",
            (820, 50 + 330 * i),
            (320, 280),
            inputs={
                "model": (combine, 0),
                "positive": (positive, 0),
                "negative": (null, 0),
                "latent_image": (latent, 0),
            },
            seed=1,
            steps=25,
            cfg=1.0,
            sampler_name="ddim",
            scheduler="simple",
        )
        samplers.append(sampler)
    canvas.group("One CFG each", (390, -20), (770, 1200), "#8a6d3b")
    _sheet(canvas, digits, samplers, (1200, 50), "guidance-kit/cfg-interval")
    canvas.group("One row each", (1180, -20), (850, 1200), "#3f7a56")


def train_and_guide(canvas: Canvas) -> None:
    """Two folders of pictures to a classifier, and the classifier to pictures."""
    canvas.note(
        "## Train on two folders, then guide\n"
        "Two folders of pictures (40 threes, 40 sevens; they come with the pack) and two hundred samples of the model "
        "itself, labelled **other**, become a noisy classifier in less than a minute. It then steers the model, which "
        "knows nothing of labels.\n\n"
        "For pictures of your own: put two folders into ComfyUI's *input* folder, choose them here, and take the model "
        "and the VAE you sample with. **Train** can be cancelled: it keeps the best so far, and goes on when run "
        "again.",
        (0, 0),
        (330, 340),
    )
    digits = canvas.node("GuidanceKitLoadDigitsDemo", (0, 420), (330, 100))
    null = canvas.node(
        "GuidanceKitNullConditionEncoder",
        (0, 580),
        (330, 130),
        inputs={"model": (digits, 0)},
        **{"kind": "class null label"},
    )
    latent = canvas.node("EmptyLatentImage", (0, 830), (330, 106), width=128, height=128, batch_size=10)
    canvas.group("Model, condition, size", (-20, 370), (370, 790))
    size = {"width": 128, "height": 128}
    threes = canvas.node(
        "GuidanceKitLabelledFolder",
        (410, 50),
        (330, 160),
        inputs={"vae": (digits, 1)},
        folder="digits demo/three",
        label="three",
        **size,
    )
    both = canvas.node(
        "GuidanceKitLabelledFolder",
        (410, 280),
        (330, 160),
        inputs={"vae": (digits, 1), "examples": (threes, 0)},
        folder="digits demo/seven",
        label="seven",
        **size,
    )
    many = canvas.node("EmptyLatentImage", (410, 520), (330, 106), width=128, height=128, batch_size=200)
    own = canvas.node(
        "KSampler",
        (410, 680),
        (330, 262),
        title="The model's own samples",
        inputs={"model": (digits, 0), "positive": (null, 0), "negative": (null, 0), "latent_image": (many, 0)},
        seed=5,
        steps=25,
        cfg=1.0,
        sampler_name="ddim",
        scheduler="simple",
    )
    examples = canvas.node(
        "GuidanceKitLabelledLatents",
        (410, 1000),
        (330, 110),
        inputs={"latents.latent0": (own, 0), "examples": (both, 0)},
        labels="other",
    )
    canvas.group("Pictures, samples and their labels", (390, -20), (370, 1180), "#8a6d3b")
    trained = canvas.node(
        "GuidanceKitTrainNoisyClassifier",
        (800, 50),
        (400, 1080),
        inputs={"model": (digits, 0), "examples": (examples, 0)},
        name="three or seven",
        steps=400,
        learning_rate=0.003,
        entropy_penalty=0.0,
        shift=True,
        log_snr_low=-8.0,
        log_snr_high=5.0,
    )
    canvas.node("PreviewImage", (1240, 50), (640, 620), title="Judgement", inputs={"images": (trained, 2)})
    canvas.node(
        "GuidanceKitSaveNoisyClassifier",
        (1240, 740),
        (640, 280),
        inputs={"classifier": (trained, 0)},
        name="three or seven",
        replace=True,
    )
    canvas.group("Train, judge, save", (780, -20), (1120, 1180), "#8a6d3b")
    samplers = []
    for i, (target, scale) in enumerate((("seven", 0.0), ("three", 2.5), ("seven", 2.5))):
        samplers.append(
            canvas.node(
                "GuidanceKitClassifierGuidanceSampler",
                (1940 + 380 * i, 50),
                (350, 760),
                title="No guidance" if scale == 0 else f"To {target}",
                inputs={
                    "model": (digits, 0),
                    "classifier": (trained, 0),
                    "positive": (null, 0),
                    "negative": (null, 0),
                    "latent_image": (latent, 0),
                },
                target=target,
                classifier_scale=scale,
                seed=5,
                steps=25,
                cfg=1.0,
                sampler_name="ddim",
                scheduler="simple",
            )
        )
    canvas.group("Guide", (1920, -20), (1150, 850), "#8a6d3b")
    _sheet(canvas, digits, samplers, (3110, 50), "guidance-kit/train-and-guide")
    canvas.group("One row each", (3090, -20), (850, 850), "#3f7a56")


def _sheet(canvas: Canvas, digits: dict, samplers: list[dict], at: tuple[int, int], prefix: str) -> None:
    """Decode the digits of every sampler, ten a row, into one saved picture."""
    x, y = at
    rows = {f"latents.latent{i}": (sampler, 0) for i, sampler in enumerate(samplers)}
    batch = canvas.node("BatchLatentsNode", (x, y), (210, 130), inputs=rows)
    decoded = canvas.node("VAEDecode", (x, y + 190), (210, 50), inputs={"samples": (batch, 0), "vae": (digits, 1)})
    listed = canvas.node("RebatchImages", (x, y + 300), (210, 60), inputs={"images": (decoded, 0)}, batch_size=1)
    grid = canvas.node(
        "ImageGrid",
        (x, y + 420),
        (210, 130),
        inputs={"images": (listed, 0)},
        columns=10,
        cell_width=128,
        cell_height=128,
        padding=4,
    )
    canvas.node("SaveImage", (x + 250, y), (560, 420), inputs={"images": (grid, 0)}, filename_prefix=prefix)


WORKFLOW_MAKERS = {
    "classifier_guidance_at_four_scales": classifier_guidance,
    "cfg_in_an_interval": cfg_interval,
    "train_on_two_folders_then_guide": train_and_guide,
}


def main() -> int:
    """Write every example workflow, run it, and keep its picture as the thumbnail."""
    WORKFLOWS.mkdir(exist_ok=True)
    with ComfyServer() as server:
        object_info = server.object_info()
        for name, make in WORKFLOW_MAKERS.items():
            canvas = Canvas(object_info)
            make(canvas)
            workflow = canvas.workflow()
            (WORKFLOWS / f"{name}.json").write_text(json.dumps(workflow, indent=1) + "\n", encoding="utf-8")
            prompt = to_prompt(workflow, object_info)
            result = server.run(prompt)
            (saver,) = (node_id for node_id, node in prompt.items() if node["class_type"] == "SaveImage")
            (picture,) = result.images(saver)
            picture.convert("RGB").save(WORKFLOWS / f"{name}.jpg", quality=88)
            print(f"{name}: {result.seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
