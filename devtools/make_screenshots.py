"""Takes the pictures of the documentation in a real browser: `python -m devtools.make_screenshots`.

Every node of the pack, set up and run as in use, in both of the front end's renderers; every example workflow after a
run; what README's steps show. Nodes and examples that are new are taken as they are found. `--nodes`, `--workflows` and
`--steps` take a part; examples that are named behind `--workflows`, those alone.
"""

import argparse
import io
import json
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from devtools import browser as chromium
from devtools import frontend
from devtools.host import ROOT
from devtools.server import ComfyServer
from devtools.tiny_classifier import write_classifier
from devtools.workflows import DIGITS, graphs_of, place
from guidance_core.writing import write_whole

IMAGES = ROOT / "docs" / "images"
HELP = ROOT / "web" / "docs" / "images"  # shown by the front end's help on a node
STEPS = {  # of README's five minutes: the template that shows each, and by their titles the nodes that fill the window
    "classifier_guidance_at_four_scales": r"Save Image|Classifier scale \d",
    "cfg_in_an_interval": r"Save Image|Scale Schedule|CFG Combine|CFG off|CFG 4.*|What the interval saved",
    "cfg_methods_side_by_side": r"Markdown Note|Save Image|CFG Combine",
    "train_on_two_folders_then_guide": r"Save Image|Train Noisy Classifier|Judgement|To (three|seven)",
    "sweep_two_scales_on_one_sheet": ".*",
}
WINDOW, ROOM = (
    (1600, 1000),
    (75, 105, 1585, 945),
)  # pixels: the window, and what its bars leave free (left, top, right, bottom)
IN_CLASSIC_TOO = 3  # examples; one renderer shows what there is to see in the others
P = frontend.PREFIX

SCHEDULE, SIX_DIGITS = f"{P}ScaleSchedule", "one | two | three | four | five | six"

# In the order in which they are wired: node id (or one of ComfyUI's own nodes), widgets, sockets with a wish.
IN_USE: tuple[tuple[str, dict, dict], ...] = (
    (f"{P}LoadDigitsDemo", {}, {}),
    (f"{P}LoadImageClassifier", {"folder": "cats and dogs"}, {"vae": f"{P}LoadDigitsDemo"}),
    ("EmptyLatentImage", {"width": 128, "height": 128, "batch_size": 10}, {}),
    (f"{P}ClassCondition", {"label": "three | seven"}, {}),
    (f"{P}NullConditionEncoder", {"kind": "class null label"}, {}),
    (
        f"{P}ScaleSchedule",
        {"shape": "cosine", "shape.low": 0.2, "axis": "sigma", "axis.start": 5.42, "axis.end": 0.28},
        {},
    ),
    (f"{P}GuidanceTarget", {"classifier.label": "seven", "weight": 1.5}, {}),
    (
        f"{P}GuidanceTarget",
        {"classifier.label": "three", "away": True, "weight": 1.0},
        {"add_to": f"{P}GuidanceTarget"},
    ),
    (f"{P}LabelledFolder", {"folder": "digits demo/three", "label": "three", "width": 128, "height": 128}, {}),
    (f"{P}LabelledFolder", {"folder": "digits demo/seven", "label": "seven", "width": 128, "height": 128}, {}),
    ("EmptyLatentImage", {"width": 128, "height": 128, "batch_size": 100}, {}),
    ("KSampler", {"seed": 5, "steps": 10, "cfg": 1.0, "sampler_name": "ddim", "scheduler": "simple"}, {}),
    (f"{P}LabelledLatents", {"labels": "other"}, {}),
    (
        f"{P}TrainNoisyClassifier",
        {"name": "three or seven", "steps": 300, "learning_rate": 0.003, "entropy_penalty": 0.0, "shift": True}
        | {"log_snr_low": -8.0, "log_snr_high": 5.0},
        {},
    ),
    (f"{P}EvaluateNoisyClassifier", {"repeats": 4}, {}),
    (f"{P}SaveNoisyClassifier", {"name": "three or seven", "replace": True, "licence": "CC BY 4.0"}, {}),
    (f"{P}LoadNoisyClassifier", {"file": "digits.safetensors"}, {}),
    ("EmptyLatentImage", {"width": 128, "height": 128, "batch_size": 6}, {}),
    (
        f"{P}ClassifierGuidanceSampler",
        {"target": "seven, -three", "classifier_scale": 3.0, "seed": 1, "steps": 25, "sampler_name": "ddim"}
        | {"cfg": 2.0, "scheduler": "simple", "control_after_generate": "fixed"},
        {"positive": f"{P}ClassCondition"} | dict.fromkeys(("classifier_schedule", "cfg_schedule"), SCHEDULE),
    ),
    (
        f"{P}GuidanceSweep",
        {"columns": "classifier scale", "columns.values": "0, 1, 2, 4", "seed": 1, "steps": 25, "cfg": 1.0}
        | {"sampler_name": "ddim", "scheduler": "simple", "target": SIX_DIGITS, "control_after_generate": "fixed"},
        {"classifier": f"{P}LoadNoisyClassifier"},
    ),
    (f"{P}ClassifierGuidance", {"target": "(seven:1.5), -three", "scale": 2.5}, {"schedule": SCHEDULE}),
    (f"{P}CFGCombine", {"scale": 4.0, "method": "apg", "method.norm_threshold": 7.5}, {"schedule": SCHEDULE}),
    (
        "KSampler",
        {"seed": 1, "steps": 25, "cfg": 1.0, "sampler_name": "ddim", "scheduler": "simple"},
        {"positive": f"{P}ClassCondition", "latent_image": "EmptyLatentImage"},
    ),
    (f"{P}GuidanceReport", {}, {}),
    (f"{P}WeakenModel", {"way": "perturbed_attention"}, {"model": f"{P}LoadDigitsDemo"}),
    (f"{P}SelfGuidance", {"scale": 2.0}, {"model": f"{P}LoadDigitsDemo", "schedule": SCHEDULE}),
    (
        "KSampler",
        {"seed": 1, "steps": 25, "cfg": 1.0, "sampler_name": "ddim", "scheduler": "simple"},
        {"positive": f"{P}ClassCondition", "latent_image": "EmptyLatentImage"},
    ),
    (f"{P}SaveNullCondition", {"name": "digits null"}, {"conditioning": f"{P}NullConditionEncoder"}),
    (f"{P}LearnNullCondition", {}, {"begin": f"{P}NullConditionEncoder"}),
)
NOT_RUN = {
    # for want of a CLIP vision model: the least are large
    *(f"{P}{name}" for name in ("ImageReferences", "TextReferences", "LoadAestheticHead")),
    f"{P}LearnNullCondition",  # the digits take a class by its number
}
APART = 3000  # from node to node, so that none is in the picture of another
EDGE, BADGE = 14, 26  # pixels around a node; above it in the classic renderer, for the pack's name
WIDEST = 2400  # pixels of a workflow's picture
HELP_COLOURS, HELP_BYTES = 256, 60_000

ALONE = """
() => {
  app.canvas.render_info = false;
  app.canvas.deselectAll();
  return app.extensionManager.command.execute("Workspace.ToggleFocusMode");
}
"""
LOOK_AT = """
([scale, x, y, links]) => {
  app.canvas.links_render_mode = links ? LiteGraph.SPLINE_LINK : LiteGraph.HIDDEN_LINK;
  app.canvas.ds.scale = scale;
  app.canvas.ds.offset = [x, y];
  app.canvas.setDirty(true, true);
}
"""
BOUNDS = "id => [...app.graph.getNodeById(id).boundingRect]"
EXTENT = """
pattern => {
  const nodes = app.graph.nodes.filter(node => !pattern || new RegExp(`^(${pattern})$`).test(node.title));
  const all = [...nodes, ...(pattern ? [] : app.graph.groups)].map(each => [...each.boundingRect]);
  const left = Math.min(...all.map(b => b[0])), top = Math.min(...all.map(b => b[1]));
  return [left, top, Math.max(...all.map(b => b[0] + b[2])) - left, Math.max(...all.map(b => b[1] + b[3])) - top];
}
"""


def main() -> int:
    """Take what was asked for (nothing named: everything), and say what was written."""
    examples = graphs_of(DIGITS)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", action="store_true", help="only the nodes")
    parser.add_argument("--workflows", nargs="*", choices=examples, help="only the example workflows, or those named")
    parser.add_argument("--steps", action="store_true", help="only README's five steps")
    asked = parser.parse_args()
    began = time.monotonic()
    with ComfyServer() as server, sync_playwright() as playwright:
        folder = server.base / "models" / "noisy_classifiers"
        folder.mkdir(parents=True)
        shutil.copy(ROOT / "guidance_core" / "demo" / "classifier.safetensors", folder / "digits.safetensors")
        write_classifier(server.base / "models" / "classifiers" / "cats and dogs")
        (server.base / "models" / "classifiers" / "sac+logos+ava1-l14-linearMSE.pth").touch()  # to be listed, not run
        for name, value in (
            ("Comfy.TutorialCompleted", True),
            ("Comfy.Minimap.Visible", False),
            ("Comfy.Graph.CanvasInfo", False),
            ("Comfy.Graph.CanvasMenu", False),
            ("LiteGraph.Canvas.MinFontSizeForLOD", 0),  # text stays text in small pictures of large graphs
        ):
            server.set_setting(name, value)
        browser = playwright.chromium.launch(executable_path=chromium.executable(playwright), args=chromium.FLAGS)
        everything = not (asked.nodes or asked.steps) and asked.workflows is None
        if asked.steps or everything:
            for step, name in enumerate(STEPS, 1):
                with _opened(server, browser, nodes2=True) as page:
                    _take_step(page, server, step, name)
        for nodes2 in (False, True):
            if asked.nodes or everything:
                with _opened(server, browser, nodes2) as page:
                    _take_nodes(page, server, nodes2)
            if asked.workflows is not None or everything:
                shown = examples if nodes2 else examples[:IN_CLASSIC_TOO]
                for name in [each for each in shown if each in (asked.workflows or shown)]:
                    with _opened(server, browser, nodes2) as page:
                        _take_workflow(page, server, name, nodes2)
        browser.close()
    print(f"Done in {time.monotonic() - began:.0f} s.")
    return 0


@contextmanager
def _opened(server: ComfyServer, browser: Browser, nodes2: bool):
    """A page with an empty graph; the server remembers no outputs, so that every node runs and says its words."""
    server.forget()
    page = frontend.open_page(server, browser, nodes2, 1200, 1600)
    frontend.start(page, server)
    page.evaluate("() => app.graph.clear()")
    yield page
    page.close()


def _take_nodes(page: Page, server: ComfyServer, nodes2: bool) -> None:
    """Set up all nodes in one graph, run it, and take each."""
    info = server.object_info()
    others = [each for each in frontend.pack_nodes(info) if each not in {used for used, _, _ in IN_USE}]
    shown: dict[str, int] = {}
    for i, (node, values, sources) in enumerate((*IN_USE, *((each, {}, {}) for each in others))):
        shown[node] = frontend.add_node(page, node, (APART * i, 0), values, sources)
        if not info[node]["output_node"] and info[node]["output"] and node not in NOT_RUN:  # so that it runs
            frontend.add_node(page, "PreviewAny", (APART * i, APART), sources={"source": node})
    frontend.press_run(page, server)
    page.evaluate(ALONE)
    for node, node_id in shown.items():
        if node.startswith(P):
            name = f"{node}.{'nodes2' if nodes2 else 'classic'}.png"
            picture = _quantized(_of_node(page, node_id, nodes2))
            _write(IMAGES / "nodes" / name, picture)
            if nodes2:
                _write(HELP / f"{node}.png", picture)


def _of_node(page: Page, node_id: int, nodes2: bool) -> Image.Image:
    x, y, *_ = page.evaluate(BOUNDS, node_id)
    page.evaluate(LOOK_AT, [1, 50 - x, 50 - y, False])
    frontend.settle(page)
    _, _, width, height = page.evaluate(BOUNDS, node_id)  # with its picture
    page.set_viewport_size({"width": max(600, int(width) + 200), "height": max(600, int(height) + 200)})
    above = EDGE if nodes2 else BADGE
    page.wait_for_timeout(300)
    clip = {"x": 50 - EDGE, "y": 50 - above, "width": width + 2 * EDGE, "height": height + above + EDGE}
    return Image.open(io.BytesIO(page.screenshot(clip=clip)))


def _take_workflow(page: Page, server: ComfyServer, name: str, nodes2: bool) -> None:
    """Load an example, run it, and take the whole of it."""
    path = place(name, DIGITS)
    frontend.load(page, json.loads(path.read_text(encoding="utf-8")), path.stem)
    frontend.press_run(page, server)
    page.evaluate(ALONE)
    left, top, width, height = page.evaluate(EXTENT)
    scale = min(1.0, WIDEST / (width + 4 * EDGE))
    size = [round(scale * (extent + 4 * EDGE)) for extent in (width, height)]
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.evaluate(LOOK_AT, [scale, 2 * EDGE - left, 2 * EDGE - top, True])
    frontend.settle(page)
    file = IMAGES / "workflows" / f"{name}.{'nodes2' if nodes2 else 'classic'}.jpg"
    _write(file, page.screenshot(type="jpeg", quality=75))


def _take_step(page: Page, server: ComfyServer, step: int, name: str) -> None:
    """Open a template as a user does, run it, and take what the window shows."""
    page.set_viewport_size(dict(zip(("width", "height"), WINDOW, strict=True)))
    path = place(name, DIGITS)
    frontend.load_template(page, json.loads(path.read_text(encoding="utf-8")), path.stem)
    frontend.press_run(page, server)
    frontend.settle(page)  # nodes have grown for what they say
    left, top, width, height = page.evaluate(EXTENT, STEPS[name])
    free_width, free_height = ROOM[2] - ROOM[0], ROOM[3] - ROOM[1]
    scale = min(1.0, free_width / width, free_height / height)
    x = ROOM[0] + (free_width - scale * width) / 2
    y = ROOM[1] + (free_height - scale * height) / 2
    page.evaluate(LOOK_AT, [scale, x / scale - left, y / scale - top, True])
    frontend.settle(page)
    page.get_by_text("Job completed").wait_for(state="hidden")
    _write(IMAGES / f"step{step}.jpg", page.screenshot(type="jpeg", quality=85))


def _quantized(picture: Image.Image) -> bytes:
    """A PNG with a palette, small enough for a help page."""
    colours = HELP_COLOURS
    while True:
        written = io.BytesIO()
        picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
        if written.tell() <= HELP_BYTES or colours <= 8:
            return written.getvalue()
        colours //= 2


def _write(file: Path, content: bytes) -> None:
    write_whole(file, content)
    print(f"{file.relative_to(ROOT)}: {len(content) / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
