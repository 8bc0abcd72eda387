"""Node definitions stay such that saved workflows load; what would break them is told in a sentence."""

import copy

import pytest

from devtools.definitions import breaks, may_break, own_nodes, reduced
from devtools.make_definitions import golden, refusal

NODE = "GuidanceKitExample"


def number(name: str, **more) -> dict:
    """A widget for a number in [0, 1]."""
    return {"id": name, "type": "FLOAT", "widget": True, "min": 0, "max": 1} | more


def example() -> dict:
    """One node: a socket, two dynamic combos, numbers between and after them, two outputs."""
    shape = {"id": "shape", "type": "COMFY_DYNAMICCOMBO_V3", "widget": True}
    way = {"id": "way", "type": "COMBO", "widget": True, "options": ["up", "down"]}
    grow = {"id": "grow", "type": "COMFY_AUTOGROW_V3", "prefix": "part", "min": 1, "max": 9, "of": ["LATENT"]}
    return {
        NODE: {
            "inputs": [
                {"id": "model", "type": "MODEL"},
                grow,
                number("scale"),
                shape | {"options": {"flat": [], "bent": [number("power")]}},
                way,
                shape | {"id": "method", "options": {"plain": [], "other": [number("eta")]}},
                {"id": "mask", "type": "MASK", "optional": True},
            ],
            "outputs": [{"name": "out", "type": "MODEL"}, {"name": "picture", "type": "IMAGE"}],
        }
    }


def input_of(nodes: dict, name: str) -> dict:
    """An input of the example by its id."""
    return next(entry for entry in nodes[NODE]["inputs"] if entry["id"] == name)


def put(place: int, entry: dict):
    """A change that inserts an input of the example."""
    return lambda nodes: nodes[NODE]["inputs"].insert(place, entry)


BREAKS = {  # a change of the example, and the sentence that must tell of it
    "node gone": (lambda n: n.pop(NODE), "GuidanceKitExample: the node is gone"),
    "node renamed": (lambda n: n.update(Other=n.pop(NODE)), "the node is gone"),
    "input gone": (lambda n: n[NODE]["inputs"].pop(0), "Example.model: the input is gone"),
    "input renamed": (lambda n: input_of(n, "scale").update(id="weight"), "Example.scale: the input is gone"),
    "type": (lambda n: input_of(n, "mask").update(type="IMAGE"), "mask: its type was MASK and is IMAGE"),
    "widget to socket": (lambda n: input_of(n, "scale").pop("widget"), "scale: its widgets are others than before"),
    "socket to widget": (lambda n: input_of(n, "model").update(widget=True), "model now stands where scale stood"),
    "control added": (lambda n: input_of(n, "scale").update(control=True), "scale: its widgets are others than before"),
    "now required": (lambda n: input_of(n, "mask").pop("optional"), "mask: it was optional and is required"),
    "least raised": (lambda n: input_of(n, "scale").update(min=0.1), "scale: its least value was 0 and is 0.1"),
    "most lowered": (lambda n: input_of(n, "scale").update(max=0.9), "scale: its greatest value was 1 and is 0.9"),
    "option gone": (lambda n: input_of(n, "way")["options"].remove("down"), "way: the option 'down' is gone"),
    "dynamic option gone": (lambda n: input_of(n, "shape")["options"].pop("bent"), "shape: the option 'bent' is gone"),
    "nested gone": (lambda n: input_of(n, "method")["options"]["other"].clear(), "method.other.eta: the input is gone"),
    "nested range": (
        lambda n: input_of(n, "method")["options"]["other"][0].update(max=0.5),
        "method.other.eta: its greatest value",
    ),
    "slots renamed": (lambda n: input_of(n, "grow").update(prefix="piece"), "grow: its prefix was part and is piece"),
    "fewer slots": (lambda n: input_of(n, "grow").update(max=8), "grow: its greatest value was 9"),
    "new required": (put(7, number("new")), "Example.new: a new input must be optional"),
    "inserted": (put(3, number("new", optional=True)), "new now stands where shape stood"),
    "swapped": (lambda n: n[NODE]["inputs"].reverse(), "method now stands where scale stood"),
    "nested inserted": (
        lambda n: input_of(n, "method")["options"]["other"].insert(0, number("new", optional=True)),
        "method.other: new now stands where eta stood",
    ),
    "nested before others": (
        lambda n: input_of(n, "shape")["options"]["flat"].append(number("new", optional=True)),
        "shape.flat: new comes before older widgets",
    ),
    "output gone": (lambda n: n[NODE]["outputs"].pop(), "output 1 was picture (IMAGE) and is gone"),
    "output type": (lambda n: n[NODE]["outputs"][0].update(type="LATENT"), "output 0 was out (MODEL) and is out (LAT"),
    "output inserted": (lambda n: n[NODE]["outputs"].insert(0, {"name": "a", "type": "MASK"}), "output 0 was out"),
    "output a list": (lambda n: n[NODE]["outputs"][0].update(list=True), "is out (MODEL list)"),
}

ADDITIONS = {
    "node": lambda n: n.update(Other=copy.deepcopy(n[NODE])),
    "socket": put(0, {"id": "clip", "type": "CLIP", "optional": True}),
    "widget at the end": put(7, number("new", optional=True)),
    "socket to widget at the end": lambda n: input_of(n, "mask").update(widget=True),
    "option": lambda n: input_of(n, "way")["options"].insert(0, "left"),
    "dynamic option": lambda n: input_of(n, "shape")["options"].update(wild=[number("new")]),
    "nested at the end of all": lambda n: input_of(n, "method")["options"]["other"].append(number("b", optional=True)),
    "nested socket": lambda n: input_of(n, "shape")["options"]["flat"].append(
        {"id": "clip", "type": "CLIP", "optional": True}
    ),
    "wider range": lambda n: input_of(n, "scale").update(min=-1, max=2),
    "no range": lambda n: (input_of(n, "scale").pop("min"), input_of(n, "scale").pop("max")),
    "required to optional": lambda n: input_of(n, "model").update(optional=True),
    "socket of more kinds": lambda n: input_of(n, "mask").update(type="IMAGE,MASK"),
    "output at the end": lambda n: n[NODE]["outputs"].append({"name": "a", "type": "MASK"}),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_breaks_workflows_is_told(name):
    change, sentence = BREAKS[name]
    new = example()
    change(new)
    told = breaks(example(), new)
    assert any(sentence in each for each in told), told


@pytest.mark.parametrize("name", ADDITIONS)
def test_additions_break_nothing(name):
    new = example()
    ADDITIONS[name](new)
    assert new != example()
    assert breaks(example(), new) == []


def test_a_socket_that_takes_less_than_before_breaks_workflows():
    old, new = example(), example()
    input_of(old, "mask").update(type="IMAGE,MASK")
    assert any("its type was IMAGE,MASK and is MASK" in each for each in breaks(old, new))


@pytest.mark.parametrize(
    ("old", "new", "may"),
    [
        ("0.1.0", "0.1.1", False),
        ("0.1.0", "0.2.0", True),
        ("0.9.0", "1.0.0", True),
        ("1.2.0", "1.3.0", False),
        ("1.2.0", "2.0.0", True),
        ("1.2.0", "0.9.0", False),
    ],
)
def test_versions_that_may_break(old, new, may):
    assert may_break(old, new) is may


@pytest.mark.parametrize(("version", "refused"), [("0.1.0", True), ("0.1.9", True), ("0.2.0", False), ("1.0.0", False)])
def test_breaking_definitions_are_written_for_a_version_that_may_break(version, refused):
    old = {"version": "0.1.0", "nodes": example()}
    assert bool(refusal(old, {}, version)) is refused
    assert refusal(old, example(), version) == []


def test_definitions_are_the_golden_ones(server):
    found, known = reduced(server.object_info()), golden()["nodes"]
    broken = breaks(known, found)
    assert not broken, "\n".join(broken)
    assert found == known, "workflows still load; write what was added: python -m devtools.make_definitions"


def test_what_the_machine_gives_is_left_out(server):
    info = server.object_info()
    node = "GuidanceKitClassifierGuidanceSampler"
    assert set(own_nodes(info)) == set(golden()["nodes"]) and "KSampler" not in own_nodes(info)
    sampler = {entry["id"]: entry for entry in reduced(info)[node]["inputs"]}
    assert "options" not in sampler["sampler_name"] and "options" not in sampler["scheduler"]
    assert sampler["seed"]["control"] and sampler["classifier_schedule"]["optional"]
