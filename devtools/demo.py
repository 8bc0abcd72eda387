"""Runs the example workflows in a real ComfyUI, saves their pictures, and measures what guidance did to the digits."""

import argparse
import copy
import json
import re
import sys
import time
from dataclasses import dataclass

import torch
from safetensors.torch import load_file

from devtools.host import ROOT
from devtools.server import ComfyServer, Result
from devtools.workflow import to_prompt
from devtools.workflows import DIGITS, graphs_of, place
from devtools.workflows.canvas import titled
from devtools.workflows.picture import captioned, row_names
from guidance_core import demo

PICTURES = ROOT / "output" / "demo"
SLOW = ("train_on_two_folders_then_guide",)
MEASURED = ("cfg_in_an_interval", "classifier_guidance_at_four_scales")
ALSO_MEASURED = (  # with --all: they, too, ask for the ten digits in turn
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
    parser.add_argument("--all", action="store_true", help="run the training too, and measure all that can be")
    asked = parser.parse_args()
    began = time.monotonic()
    PICTURES.mkdir(parents=True, exist_ok=True)
    judged = demo.load()
    print("Starting ComfyUI ...", flush=True)
    with ComfyServer() as server:
        object_info = server.object_info()
        for name in graphs_of(DIGITS):
            if name in SLOW and not asked.all:
                continue
            file = place(name, DIGITS)
            workflow = json.loads(file.read_text(encoding="utf-8"))
            prompt = to_prompt(workflow, object_info)
            result = server.run(prompt)
            print(f"\n{file.stem}: ran in {result.seconds:.1f} s", flush=True)
            names = row_names(workflow)
            if name in MEASURED or asked.all and name in ALSO_MEASURED:
                print(_table(_measure(server, prompt, names, judged)), flush=True)
            titles = {str(node["id"]): node.get("title", node["type"]) for node in workflow["nodes"]}
            _save(result, prompt, titles, file.stem, list(names.values()))
    print(f"\nThe judge knows clean digits and never guides; {SAMPLES} samples a row. Diversity 1 is real digits.")
    if not asked.all:
        print(f"Left out without --all: {', '.join(map(titled, SLOW))}, and tables for more of the examples.")
    print(f"Pictures, each example's own and what its nodes showed: {PICTURES}")
    print(f"Done in {time.monotonic() - began:.0f} s.")
    return 0


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
    said = "\n".join(result.texts.get(node_id, []))
    if found := re.findall(r"(\d+ of \d+) passes run", said):
        return found[-1]
    model = prompt[node_id]["inputs"].get("model")
    return _passes(result, prompt, model[0]) if model else ""


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


def _save(result: Result, prompt: dict, titles: dict[str, str], stem: str, names: list[str]) -> None:
    """Save a workflow's sheet with its rows named, and the pictures that its nodes show."""
    for node_id in result.outputs:
        for picture in result.images(node_id):
            if prompt[node_id]["class_type"] == "SaveImage":
                (captioned(picture, names) if names else picture).save(PICTURES / f"{stem}.png")
            else:
                picture.save(PICTURES / f"{stem}-{re.sub('[^a-z0-9]+', '-', titles[node_id].lower())}.png")


if __name__ == "__main__":
    sys.exit(main())
