"""What saved workflows rely on in node definitions, and what would break if it changed."""

import math
from collections.abc import Iterator

from devtools.host import PACK_NAME

PACK = f"custom_nodes.{PACK_NAME}"
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
OWN = "digits demo"  # how the pack's own entries begin in lists of files
LISTS_FILES = ("file", "folder", "GuidanceKitGuidanceTarget.classifier")

Definition = dict  # of one node, as `reduced` gives it


def own_nodes(object_info: dict[str, dict]) -> dict[str, dict]:
    """The pack's nodes among those that /object_info tells of."""
    return {node: info for node, info in object_info.items() if info["python_module"] == PACK}


def reduced(object_info: dict[str, dict]) -> dict[str, Definition]:
    """What workflows rely on, of each of the pack's nodes: inputs and outputs, with types, ranges, options and order.

    Names, tooltips, defaults and lists that the machine gives (files, ComfyUI's samplers) are left out.
    """
    sampler = object_info["KSampler"]["input"]["required"]
    machine = [_choices(sampler[name]) for name in ("sampler_name", "scheduler")]
    return {
        node: {"inputs": _inputs(info["input"], node, machine), "outputs": _outputs(info)}
        for node, info in sorted(own_nodes(object_info).items())
    }


def inputs_of(groups: dict[str, dict]) -> Iterator[tuple[str, str, dict, bool]]:
    """(id, type, what else is declared, whether it is optional) of each input, in order."""
    for group in ("required", "optional"):
        for name, (kind, *rest) in groups.get(group, {}).items():
            declared = rest[0] if rest else {}
            if isinstance(kind, list):
                kind, declared = "COMBO", declared | {"options": kind}
            yield name, kind, declared, group == "optional"


def _choices(spec: list) -> list:
    return spec[0] if isinstance(spec[0], list) else spec[1]["options"]


def _inputs(groups: dict[str, dict], node: str, machine: list[list]) -> list[dict]:
    found = []
    for name, kind, declared, optional in inputs_of(groups):
        entry = {"id": name, "type": kind}
        entry |= {"optional": True} if optional else {}
        entry |= {"widget": True} if kind in WIDGETS and not declared.get("forceInput") else {}
        by_name = kind == "INT" and name in ("seed", "noise_seed")  # the front end's own rule
        entry |= {"control": True} if declared.get("control_after_generate", by_name) else {}
        entry |= {key: declared[key] for key in ("min", "max") if key in declared}
        files = name in LISTS_FILES or f"{node}.{name}" in LISTS_FILES
        if kind == "COMFY_DYNAMICCOMBO_V3":
            entry["options"] = {
                option["key"]: _inputs(option["inputs"], node, machine)
                for option in declared["options"]
                if not files or option["key"].startswith(OWN)
            }
        elif kind == "COMBO" and declared["options"] not in machine:
            entry["options"] = [each for each in declared["options"] if not files or each.startswith(OWN)]
        elif kind == "COMFY_AUTOGROW_V3":
            template = declared["template"]
            entry |= {key: template[key] for key in ("prefix", "min", "max")}
            entry["of"] = [inner for _, inner, _, _ in inputs_of(template["input"])]
        found.append(entry)
    return found


def _outputs(info: dict) -> list[dict]:
    return [
        {"name": name, "type": kind} | ({"list": True} if many else {})
        for name, kind, many in zip(info["output_name"], info["output"], info["output_is_list"], strict=True)
    ]


def breaks(old: dict[str, Definition], new: dict[str, Definition]) -> list[str]:
    """What would break in workflows that were saved with the old definitions, a sentence each."""
    found = []
    for node, was in old.items():
        if node not in new:
            found.append(f"{node}: the node is gone; workflows that hold it do not load.")
            continue
        inputs = list(_input_breaks(node, was["inputs"], new[node]["inputs"]))
        found += inputs or _order_breaks(node, was["inputs"], new[node]["inputs"], last=True)
        found += _output_breaks(node, was["outputs"], new[node]["outputs"])
    return found


def _input_breaks(where: str, old: list[dict], new: list[dict]) -> Iterator[str]:
    before, after = ({entry["id"]: entry for entry in entries} for entries in (old, new))
    for name, was in before.items():
        here = f"{where}.{name}"
        if name in after:
            yield from _changes(here, was, after[name])
        else:
            yield f"{here}: the input is gone; its value and its links are lost."
    for name, entry in after.items():
        if name not in before and not entry.get("optional"):
            yield f"{where}.{name}: a new input must be optional; prompts that lack it are refused."


def _changes(here: str, was: dict, now: dict) -> Iterator[str]:
    if not set(was["type"].split(",")) <= set(now["type"].split(",")):  # a socket may come to take more
        yield f"{here}: its type was {was['type']} and is {now['type']}; what is linked or saved there is refused."
        return
    lost = was.get("widget") and not now.get("widget")  # one that is gained is judged by its place among the others
    if lost or was.get("control") != now.get("control"):
        yield f"{here}: its widgets are others than before; values saved after it move to the wrong ones."
    if was.get("optional") and not now.get("optional"):
        yield f"{here}: it was optional and is required; prompts without it are refused."
    for key in ("prefix", "of"):
        if was.get(key) != now.get(key):
            yield f"{here}: its {key} was {was.get(key)} and is {now.get(key)}; links to it are lost."
    if "min" in now and now["min"] > was.get("min", -math.inf):
        yield f"{here}: its least value was {was.get('min')} and is {now['min']}; saved values below it are refused."
    if "max" in now and now["max"] < was.get("max", math.inf):
        yield f"{here}: its greatest value was {was.get('max')} and is {now['max']}; saved values above it are refused."
    for option in was.get("options", ()):
        if option not in now.get("options", ()):
            yield f"{here}: the option '{option}' is gone; workflows that chose it are refused."
        elif isinstance(was["options"], dict):
            yield from _input_breaks(f"{here}.{option}", was["options"][option], now["options"][option])


def _order_breaks(where: str, old: list[dict], new: list[dict], last: bool) -> list[str]:
    """Workflows save widgets by their place: new ones may only come after all old ones of the node."""
    before, after = ([entry for entry in entries if entry.get("widget")] for entries in (old, new))
    for was, now in zip(before, after, strict=False):
        if was["id"] != now["id"]:
            return [f"{where}: {now['id']} now stands where {was['id']} stood; saved values move to the wrong widgets."]
    if len(after) > len(before) and not last:
        return [f"{where}: {after[len(before)]['id']} comes before older widgets of the node; saved values move on."]
    found = []
    for i, (was, now) in enumerate(zip(before, after, strict=False)):
        if isinstance(was.get("options"), dict):
            for option, inputs in was["options"].items():
                end = last and i == len(after) - 1
                found += _order_breaks(f"{where}.{was['id']}.{option}", inputs, now["options"][option], end)
    return found


def _output_breaks(node: str, old: list[dict], new: list[dict]) -> Iterator[str]:
    for place, was in enumerate(old):
        now = new[place] if place < len(new) else None
        if was != now:
            yield f"{node}: output {place} was {_output(was)} and is {_output(now)}; links from it lead elsewhere."


def _output(output: dict | None) -> str:
    return "gone" if output is None else f"{output['name']} ({output['type']}{' list' if output.get('list') else ''})"


def may_break(old_version: str, new_version: str) -> bool:
    """Whether semantic versioning lets the new version break workflows of the old one."""
    old, new = ([int(part) for part in version.split(".")] for version in (old_version, new_version))
    return new[0] > old[0] or (new[0] == old[0] == 0 and new[1] > old[1])
