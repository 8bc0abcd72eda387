"""The example workflows of every family: laid out well, as their files say, and running on small models."""

import functools
import json
from collections import Counter

import numpy as np
import pytest
from graph import Output, fresh, read

from devtools.make_workflows import written
from devtools.workflow import to_prompt, widgets
from devtools.workflows import DIGITS, EXAMPLES, FAMILIES, FOLDER, Bundled, draft, graphs_of, place
from devtools.workflows.arrange import SCREEN
from devtools.workflows.families import TRAINING
from devtools.workflows.groups import MARGIN, TITLE, extent
from devtools.workflows.parts import SHEET, SPACE

SMALL, ROW, OWN = 64, 2, 6  # pixels of a picture, pictures in a row and to learn from, where the graphs run
LOADERS = {  # output slot -> what takes its place
    "CheckpointLoaderSimple": {0: ("model", 0), 1: ("parts", 0), 2: ("parts", 1)},
    "UNETLoader": {0: ("model", 0)},
    "CLIPLoader": {0: ("parts", 0)},
    "VAELoader": {0: ("parts", 1)},
    "CLIPVisionLoader": {0: ("vision", 0)},
    "LoadImage": {0: ("shown", 0)},
}
ASKING = {  # loaders, conditions and empty latents, in which families differ
    *LOADERS,
    "GuidanceKitLoadDigitsDemo",
    "GuidanceKitLoadNoisyClassifier",
    "GuidanceKitClassCondition",
    "GuidanceKitNullConditionEncoder",
    "CLIPTextEncode",
    "EmptyLatentImage",
    "EmptySD3LatentImage",
}
SWEEP = "sweep_two_scales_on_one_sheet"
FILES = (
    "image",
    "ckpt_name",
    "unet_name",
    "clip_name",
    "vae_name",
    "file",
    "folder",
)  # widgets that list the user's files
PROBES = {"sd15": ("SD15", 4), "sdxl": ("SDXL", 4), "flux": ("Flux", 16)}
WHOLE = {  # small models with the blocks of the family's own, for graphs that weaken some
    "sd15": {"class_type": "ProbeModel", "inputs": {"kind": "eps", "seed": 0, "nonce": 0}},
    "sdxl": {"class_type": "ProbeModel", "inputs": {"kind": "v", "seed": 0, "nonce": 0}},
    "flux": {"class_type": "ProbeTransformer", "inputs": {"family": "Flux", "dtype": "fp32", "nonce": 0}},
}
PROMPTED = [family for family in FAMILIES if family is not DIGITS]
READABLE = 8 / 14  # the classic canvas draws no letters of less than 8 pixels; they are 14
LETTER = 9.5  # pixels of a frame's title, as the front end draws it
SHOWN = 0.75  # of the window, by a graph that has just been opened


@pytest.fixture(scope="module")
def object_info(server):
    return server.object_info()


def given(examples) -> pytest.MarkDecorator:
    """Parametrize over (name, family) of examples."""
    return pytest.mark.parametrize(
        ("name", "family"), examples, ids=[f"{family.name}-{name}" for name, family in examples]
    )


every_example = given(EXAMPLES)


@every_example
def test_the_file_is_what_the_maker_writes(object_info, name, family):
    """Otherwise: python -m devtools.make_workflows."""
    assert place(name, family).read_text(encoding="utf-8") == written(draft(name, family, object_info))


def test_there_are_no_other_files():
    """Every graph has a picture; what no maker writes is not there."""
    wanted = {place(name, family).with_suffix(ending) for name, family in EXAMPLES for ending in (".json", ".jpg")}
    assert {file for file in FOLDER.rglob("*") if file.is_file()} == wanted


@every_example
def test_nothing_overlaps(object_info, name, family):
    workflow = draft(name, family, object_info)
    nodes = {node["id"]: (*node["pos"], *extent(node)) for node in workflow["nodes"]}
    nodes = {key: (x, y - TITLE, width, height + TITLE) for key, (x, y, width, height) in nodes.items()}
    groups = [group["bounding"] for group in workflow["groups"]]
    for boxes in (list(nodes.values()), groups):
        for i, box in enumerate(boxes):
            assert not any(_meet(box, other) for other in boxes[:i])
    for node in nodes.values():
        assert sum(_inside(node, group) for group in groups) == 1


@every_example
def test_titles_end_inside_their_frames(object_info, name, family):
    for group in draft(name, family, object_info)["groups"]:
        assert LETTER * len(group["title"]) + MARGIN <= group["bounding"][2], group["title"]


def _meet(one, other):
    return all(max(a, b) < min(a + size, b + other_size) for a, size, b, other_size in _sides(one, other))


def _inside(one, other):
    return all(b <= a and a + size <= b + other_size for a, size, b, other_size in _sides(one, other))


def _sides(one, other):
    return [(one[axis], one[axis + 2], other[axis], other[axis + 2]) for axis in (0, 1)]


@given([(name, family) for name, family in EXAMPLES if family in PROMPTED and name in graphs_of(DIGITS)])
def test_families_differ_in_what_they_load_and_ask_alone(object_info, name, family):
    def structure(workflow):
        types = {node["id"]: node["type"] for node in workflow["nodes"]}
        kept = Counter(type_ for type_ in types.values() if type_ not in ASKING)
        links = Counter(
            (types[source], slot, types[target], index)
            for _, source, slot, target, index, _ in workflow["links"]
            if not {types[source], types[target]} & ASKING
        )
        return kept, links

    assert structure(draft(name, family, object_info)) == structure(draft(name, DIGITS, object_info))


@every_example
def test_choices_exist(object_info, name, family):
    """Every value of a list is in it, but for files, which are the user's own."""
    for node in to_prompt(draft(name, family, object_info), object_info).values():
        for widget in widgets(object_info[node["class_type"]]):
            if widget.type == "COMBO" and widget.name not in FILES:
                assert node["inputs"][widget.name] in widget.choices, (node["class_type"], widget.name)


@given([(name, family) for name, family in EXAMPLES if isinstance(family, Bundled)])
def test_the_first_view_can_be_read(object_info, name, family):
    """Of a template that is opened in a window of the usual shape; the note and the result stand side by side."""
    workflow = draft(name, family, object_info)
    frames = {group["title"]: group["bounding"] for group in workflow["groups"]}
    right, below = (max(box[axis] + box[axis + 2] for box in frames.values()) for axis in (0, 1))
    assert SHOWN * min(SCREEN[0] / right, SCREEN[1] / below) >= READABLE
    note, result = frames["Read first"], frames["Result"]
    assert note[1] == result[1] and note[0] + note[2] + MARGIN == result[0]


@every_example
def test_app_mode_asks_for_what_is_there(object_info, name, family):
    workflow = draft(name, family, object_info)
    prompt = to_prompt(workflow, object_info)
    shown = workflow["extra"]["linearData"]
    assert all(widget in prompt[str(node)]["inputs"] for node, widget in shown["inputs"])
    assert [prompt[str(node)]["class_type"] for node in shown["outputs"]] == ["SaveImage"]


@given([(name, family) for name, family in EXAMPLES if family in PROMPTED])
def test_models_are_named_with_their_address(object_info, name, family):
    """So that ComfyUI offers the download: each in the node that names it, and in the note."""
    nodes = draft(name, family, object_info)["nodes"]
    offered = {model["name"]: node for node in nodes for model in node["properties"].get("models", ())}
    (note,) = (node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote")
    assert {model.name for model in family.models} <= offered.keys()
    for file, node in offered.items():
        (model,) = (each for each in node["properties"]["models"] if each["name"] == file)
        assert file in node["widgets_values"] and file in note
        assert model["url"].startswith("https://") and model["url"].endswith(f"/{file}") and model["directory"]


@functools.cache
def _run(server, family, name):
    if name != TRAINING and "GuidanceKitLoadNoisyClassifier" in json.dumps(draft(name, family, server.object_info())):
        _run(server, family, TRAINING)  # writes the file
    prompt = _small(to_prompt(draft(name, family, server.object_info()), server.object_info()), family)
    for key, node in list(prompt.items()):
        if node["class_type"] == "GuidanceKitGuidanceSweep":
            prompt["read"] = {"class_type": "ProbeRead", "inputs": {"latent": [key, 2], "nonce": fresh()}}
    return prompt, server.run(prompt)


def _small(prompt, family):
    """The prompt on small random models of the family, with few steps and small pictures."""
    probe, channels = PROBES[family.name]
    made = {
        "model": {"class_type": "ProbeFamily", "inputs": {"family": probe, "dtype": "fp32", "nonce": 0}},
        "parts": {"class_type": "ProbeParts", "inputs": {"channels": channels}},
        "small": {"class_type": "ProbeDecoder", "inputs": {"kind": "taesd", "channels": channels, "nonce": 0}},
        "vision": {"class_type": "ProbeVision", "inputs": {"kind": "clip", "nonce": 0}},
        "shown": {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": 255}},
    }
    if any(node["class_type"] == "GuidanceKitWeakenModel" for node in prompt.values()):
        made["model"] = WHOLE[family.name]
    for key, node in prompt.items():
        if node["class_type"] in LOADERS:
            continue
        inputs = dict(node["inputs"])
        for socket, value in inputs.items():
            if isinstance(value, list) and (loader := LOADERS.get(prompt[value[0]]["class_type"])):
                inputs[socket] = list(loader[value[1]])
                if prompt[value[0]]["inputs"].get("vae_name", "").startswith(("taesd", "taef")):
                    inputs[socket] = ["small", 0]
        if inputs.get("folder") in family.folders:
            inputs["folder"] = DIGITS.folders[family.folders.index(inputs["folder"])]
        pictures = inputs.get("batch_size", 0)
        pictures = OWN if pictures == family.own else min(ROW, pictures)
        few = {"steps": 4, "batch_size": pictures, "columns": ROW, "batch": 8}
        few |= {"size": "small", "cell_width": SMALL, "cell_height": SMALL}
        few |= {side: inputs[side] * SMALL // family.size for side in ("width", "height", "x", "y") if side in inputs}
        made[key] = node | {
            "inputs": inputs | {name: few[name] for name in few if type(few[name]) is type(inputs.get(name))}
        }
    return made


@given([(name, family) for name, family in EXAMPLES if family in PROMPTED and name != SWEEP])
def test_it_runs_on_a_small_model_of_the_family(server, object_info, name, family):
    prompt, result = _run(server, family, name)
    rows = len(next(node for node in prompt.values() if node["class_type"] == SHEET)["inputs"])
    (saver,) = (key for key, node in prompt.items() if node["class_type"] == "SaveImage")
    (sheet,) = result.images(saver)
    pixels = np.asarray(sheet.convert("RGB"), dtype=float)
    assert pixels.shape == (rows * SMALL + (rows - 1) * SPACE, ROW * SMALL + (ROW - 1) * SPACE, 3)
    pictures = [
        pixels[y : y + SMALL, x : x + SMALL]
        for y in range(0, pixels.shape[0], SMALL + SPACE)
        for x in range(0, pixels.shape[1], SMALL + SPACE)
    ]
    assert min(picture.std() for picture in pictures) > 5, "an empty picture, or one of numbers that are not finite"
    assert len({picture.tobytes() for picture in pictures[::ROW]}) > 1, "all rows are alike"


@pytest.mark.parametrize("family", PROMPTED, ids=lambda family: family.name)
def test_the_sweep_runs_on_a_small_model_of_the_family(server, family):
    _, result = _run(server, family, SWEEP)
    latents = read(result, Output(["read", 0])).latent
    assert len(latents) == 3 * 3 and np.isfinite(latents).all()
    assert min(latent.std() for latent in latents) > 0.1
    assert len({latent.tobytes() for latent in latents}) == 3 * 3, "pairs of settings that are alike"


def test_what_a_run_says_is_on_the_nodes_of_its_own_workflow(server, object_info):
    """ComfyUI keeps results for the same node in the next workflow, where it has another number."""
    prompt = to_prompt(draft("cfg_in_an_interval", DIGITS, object_info), object_info)
    speakers = {key for key, node in prompt.items() if node["class_type"] == "GuidanceKitCFGCombine"}
    for prefix, seed in (("", 1), ("other", 2)):
        numbered = {f"{prefix}{key}": node | {"inputs": dict(node["inputs"])} for key, node in prompt.items()}
        for node in numbered.values():
            for name, value in node["inputs"].items():
                if isinstance(value, list):
                    node["inputs"][name] = [f"{prefix}{value[0]}", value[1]]
            few = {"steps": 4, "seed": seed, "batch_size": 1 if node["class_type"] == "EmptyLatentImage" else None}
            node["inputs"] |= {name: few[name] for name in few if few[name] and name in node["inputs"]}
        texts = server.run(numbered).texts
        said = {node_id for node_id, lines in texts.items() if any("passes run" in line for line in lines)}
        assert said == {f"{prefix}{key}" for key in speakers}
