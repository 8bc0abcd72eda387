"""Runs example workflows in a real ComfyUI, shows their pictures on a page, and measures what guidance did."""

import argparse
import copy
import json
import re
import sys
import time
from dataclasses import dataclass

import torch
from safetensors.torch import load_file

from devtools.demo_page import Shown, opened, write_page
from devtools.host import ROOT, comfyui
from devtools.server import ComfyServer, Result
from devtools.workflow import to_prompt
from devtools.workflows import EXAMPLES, Bundled, place
from devtools.workflows.picture import captioned, row_names
from guidance_core import demo

PICTURES = ROOT / "output" / "demo"
PAGE = PICTURES / "index.html"
SHORT = (  # what a first look needs; the others with --all
    "classifier_guidance_at_four_scales",
    "cfg_in_an_interval",
    "cfg_methods_side_by_side",
    "sweep_two_scales_on_one_sheet",
    "emoji_with_what_no_class_says",
)
MEASURED = SHORT[:1]
ALSO_MEASURED = (  # with --all: they, too, ask for the ten digits in turn
    "cfg_in_an_interval",
    "cfg_methods_side_by_side",
    "cfg_schedule_drawn_by_hand",
    "cfg_schedules_side_by_side",
    "null_conditions_compared",
)
SAMPLES = 100  # of each row of the table: ten a digit


@dataclass(frozen=True)
class Row:
    """One sampler of a workflow, measured. passes: how many it ran of those that it would have without skipping."""

    title: str
    accuracy: float
    diversity: float
    passes: str


def main() -> int:
    """Run the workflows as they are, for their pictures, and the measured ones with many samples, for the table."""
    parser = argparse.ArgumentParser(prog="dev.py demo", description=__doc__)
    parser.add_argument(
        "--all", action="store_true", help="run every example, training too, and measure all that can be"
    )
    asked = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    bundled = [(name, family) for name, family in EXAMPLES if isinstance(family, Bundled)]
    chosen = [each for each in bundled if asked.all or each[0] in SHORT]
    measured = MEASURED + ALSO_MEASURED if asked.all else MEASURED
    judged = demo.load()
    shown: list[Shown] = []
    comfyui()  # which says so where it has to install something
    began = time.monotonic()
    print("Starting ComfyUI ...", flush=True)
    with ComfyServer() as server:
        object_info = server.object_info()
        for name, family in chosen:
            file = place(name, family)
            workflow = json.loads(file.read_text(encoding="utf-8"))
            prompt = to_prompt(workflow, object_info)
            result = server.run(prompt)
            names = row_names(workflow)
            _save(result, prompt, workflow, file.stem, list(names.values()))
            print(f"\n{file.stem}: {result.seconds:.1f} s, {PICTURES / file.stem}.png", flush=True)
            table = _table(_measure(server, prompt, names, judged)) if name in measured else ""
            if table:
                print(table, flush=True)
            shown.append(Shown(file.stem, note_of(workflow), table, f"{file.stem}.png"))
            write_page(PAGE, shown)
    print(f"\nThe judge knows clean digits and never guides; {SAMPLES} samples a row. Diversity 1 is real digits.")
    if not asked.all:
        print(f"{len(bundled) - len(chosen)} more examples run with --all: training a classifier, schedules, and more.")
    print(f"Everything on one page{', which is open in your browser' if opened(PAGE) else ''}: {PAGE.as_uri()}")
    print(f"The examples took {time.monotonic() - began:.0f} s.")
    return 0


def note_of(workflow: dict) -> str:
    """What a workflow's note says before it comes to what can be changed in ComfyUI, without its title."""
    (note,) = (node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    _, _, text = note.partition("\n\n")
    return text.partition("\n\n**Change first:**")[0]


def _measure(server: ComfyServer, prompt: dict, names: dict[str, str], judged: demo.Demo) -> list[Row]:
    """Run the prompt's rows on SAMPLES digits each and read their latents."""
    prompt = copy.deepcopy(prompt)
    kept = _upstream(prompt, list(names))
    prompt = {node_id: prompt[node_id] for node_id in kept}
    for node in prompt.values():
        if node["class_type"] == "EmptyLatentImage":
            node["inputs"]["batch_size"] = SAMPLES
    for node_id in names:
        inputs = {"samples": [node_id, 0], "filename_prefix": f"demo/{node_id}"}
        prompt[f"save-{node_id}"] = {"class_type": "SaveLatent", "inputs": inputs}
    result = server.run(prompt)
    wanted = torch.arange(SAMPLES) % len(judged.labels)
    rows = []
    for node_id, title in names.items():
        (place,) = result.outputs[f"save-{node_id}"]["latents"]
        file = server.base / "output" / place["subfolder"] / place["filename"]
        images = judged.to_image(load_file(file)["latent_tensor"])
        accuracy, diversity = judged.judge.accuracy(images, wanted), judged.judge.diversity(images, wanted)
        rows.append(Row(title, accuracy, diversity, _passes(result, prompt, node_id)))
    return rows


def _passes(result: Result, prompt: dict, node_id: str) -> str:
    """What the sampler, or the node that guides its model, said of its passes."""
    if passes := passes_in("\n".join(result.texts.get(node_id, []))):
        return passes
    model = prompt[node_id]["inputs"].get("model")
    return _passes(result, prompt, model[0]) if model else ""


def passes_in(said: str) -> str:
    """The last count of passes in what a node said, as "34 of 50"; empty where there is none."""
    found = re.findall(r"(\d+ of \d+) passes", said)
    return found[-1] if found else ""


def _upstream(prompt: dict, node_ids: list[str]) -> set[str]:
    """The nodes that lead to the named ones, and these."""
    found, pending = set(), list(node_ids)
    while pending:
        node_id = pending.pop()
        if node_id not in found:
            found.add(node_id)
            pending += [value[0] for value in prompt[node_id]["inputs"].values() if isinstance(value, list)]
    return found


def _table(rows: list[Row]) -> str:
    lines = [f"  {'':28} {'judge accuracy':>14} {'diversity':>10} {'passes run':>16}"]
    lines += [f"  {row.title:28} {row.accuracy:>14.1%} {row.diversity:>10.2f} {row.passes:>16}" for row in rows]
    return "\n".join(lines)


def _save(result: Result, prompt: dict, workflow: dict, stem: str, names: list[str]) -> None:
    """Save a workflow's sheet with its rows named, and the pictures that its nodes show."""
    titles = {str(node["id"]): node.get("title", node["type"]) for node in workflow["nodes"]}
    for node_id in result.outputs:
        for picture in result.images(node_id):
            if prompt[node_id]["class_type"] == "SaveImage":
                (captioned(picture, names) if names else picture).save(PICTURES / f"{stem}.png")
            else:
                picture.save(PICTURES / f"{stem}-{re.sub('[^a-z0-9]+', '-', titles[node_id].lower())}.png")


if __name__ == "__main__":
    sys.exit(main())
