"""Runs the example workflows in a real ComfyUI, saves their pictures, and measures what guidance did to the digits."""

import copy
import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file

from devtools.host import ROOT
from devtools.server import ComfyServer, Result
from devtools.workflow import to_prompt
from guidance_core import demo

WORKFLOWS = ROOT / "example_workflows"
PICTURES = ROOT / "output" / "demo"
SAMPLERS = ("GuidanceKitClassifierGuidanceSampler", "KSampler")
MEASURED = ("cfg_in_an_interval", "classifier_guidance_at_four_scales")  # those that ask for the ten digits in turn
SAMPLES = 100  # of each row of the table: ten a digit


@dataclass(frozen=True)
class Row:
    """One sampler of a workflow, measured. plain_passes: how many it would have run without skipping."""

    title: str
    accuracy: float
    diversity: float
    passes: int
    plain_passes: int


def main() -> int:
    """Run every workflow as it is, for its pictures, and the measured ones with many samples, for the table."""
    began = time.monotonic()
    PICTURES.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    judged = demo.load()
    print("Starting ComfyUI ...", flush=True)
    with ComfyServer() as server:
        object_info = server.object_info()
        for file in sorted(WORKFLOWS.glob("*.json")):
            workflow = json.loads(file.read_text(encoding="utf-8"))
            titles = {str(node["id"]): node.get("title", node["type"]) for node in workflow["nodes"]}
            prompt = to_prompt(workflow, object_info)
            result = server.run(prompt)
            print(f"\n{file.stem.replace('_', ' ')}: ran in {result.seconds:.1f} s", flush=True)
            captions = [titles[node_id] for node_id, node in prompt.items() if node["class_type"] == SAMPLERS[0]]
            if file.stem in MEASURED:
                rows = _measure(server, prompt, titles, judged)
                captions = [row.title for row in rows]
                print(_table(rows), flush=True)
            written += _save(result, prompt, titles, file.stem, captions)
    print(f"\nThe judge knows clean digits and never guides; {SAMPLES} samples a row. Diversity 1 is real digits.")
    print("Pictures:", *(f"  {path}" for path in written), sep="\n")
    print(f"Done in {time.monotonic() - began:.0f} s.")
    return 0


def _measure(server: ComfyServer, prompt: dict, titles: dict[str, str], judged: demo.Demo) -> list[Row]:
    """Run the prompt's samplers on SAMPLES digits and read their latents."""
    prompt = copy.deepcopy(prompt)
    samplers = [node_id for node_id, node in prompt.items() if node["class_type"] in SAMPLERS]
    kept = _upstream(prompt, samplers)
    prompt = {node_id: prompt[node_id] for node_id in kept}
    for node in prompt.values():
        if node["class_type"] == "EmptyLatentImage":
            node["inputs"]["batch_size"] = SAMPLES
    for node_id in samplers:
        inputs = {"samples": [node_id, 0], "filename_prefix": f"demo/{node_id}"}
        prompt[f"save-{node_id}"] = {"class_type": "SaveLatent", "inputs": inputs}
    result = server.run(prompt)
    wanted = torch.arange(SAMPLES) % len(judged.labels)
    rows = []
    for node_id in samplers:
        (place,) = result.outputs[f"save-{node_id}"]["latents"]
        file = server.base / "output" / place["subfolder"] / place["filename"]
        images = judged.to_image(load_file(file)["latent_tensor"])
        speaker = prompt[node_id]["inputs"]["model"][0] if node_id not in result.texts else node_id
        passes, plain = map(int, re.search(r"(\d+) of (\d+) passes run", "\n".join(result.texts[speaker])).groups())
        accuracy, diversity = judged.judge.accuracy(images, wanted), judged.judge.diversity(images, wanted)
        rows.append(Row(titles[speaker], accuracy, diversity, passes, plain))
    return rows


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
    lines = [f"  {'':24} {'judge accuracy':>14} {'diversity':>10} {'passes run':>16}"]
    for row in rows:
        passes = f"{row.passes} of {row.plain_passes}"
        lines.append(f"  {row.title:24} {row.accuracy:>14.1%} {row.diversity:>10.2f} {passes:>16}")
    return "\n".join(lines)


def _save(result: Result, prompt: dict, titles: dict[str, str], stem: str, rows: list[str]) -> list[Path]:
    """Save a workflow's sheet with its rows named, and the pictures that its nodes show."""
    written = []
    for node_id in result.outputs:
        for picture in result.images(node_id):
            if prompt[node_id]["class_type"] == "SaveImage":
                path, picture = PICTURES / f"{stem}.png", _captioned(picture, rows)
            else:
                path = PICTURES / f"{stem}-{re.sub('[^a-z0-9]+', '-', titles[node_id].lower())}.png"
            picture.save(path)
            written.append(path)
    return sorted(written, key=lambda path: len(path.name))


def _captioned(sheet: Image.Image, rows: list[str], margin: int = 16, column: int = 250) -> Image.Image:
    """A sheet of digits with the name of each row beside it."""
    sheet = sheet.convert("RGB")
    made = Image.new("RGB", (sheet.width + column + margin, sheet.height + 2 * margin), (14, 17, 32))
    made.paste(sheet, (column, margin))
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(size=21)
    height = sheet.height / len(rows)
    for i, row in enumerate(rows):
        draw.text((margin, margin + height * (i + 0.5)), row, fill=(230, 226, 214), font=font, anchor="lm")
    return made


if __name__ == "__main__":
    sys.exit(main())
