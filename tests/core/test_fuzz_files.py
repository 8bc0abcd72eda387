"""Hostile files: whatever a classifier's file holds, it loads or is refused in a sentence, with little work and memory.

The fuzz runs for seconds here and, marked slow, for minutes.
"""

import json
import os
import struct
import sys
from contextlib import contextmanager

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

import guidance_core as gc
from guidance_core.classifier.card_values import MAX_DEPTH, MAX_LABELS, MAX_LEVELS
from guidance_core.classifier.latent_encoder import LatentEncoder
from guidance_core.classifier.measurements import Bin, Suggestion
from guidance_core.classifier.network import ARCHITECTURES
from guidance_core.classifier.noisy import read_card
from guidance_core.files import MAX_HEADER, MAX_TENSORS

resource = pytest.importorskip("resource")

PARAMETERS = {"channels": 2, "classes": 3, "width": 8, "multipliers": [1, 2], "depth": 1, "embedding": 16}
CALLS, MEGABYTES = 500_000, 200
SMALL = {  # of each architecture, and none of the whole file's
    "latent_encoder": PARAMETERS | {"width": 32},
    "adm_encoder": {"channels": 2, "classes": 3, "width": 32, "multipliers": [1, 2], "depth": 1}
    | {"image_size": 64, "attention": [32], "head_channels": 8},
}
X = torch.linspace(-1, 1, 2 * 2 * 8 * 8).reshape(2, 2, 8, 8)


def whole_file(folder):
    """The bytes of a valid file with every field in its description."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = LatentEncoder(**PARAMETERS).eval().requires_grad_(False)
    classifier = gc.NoisyClassifier(network, ["cat", "dog", "Ü"], "sd15", parameters=PARAMETERS, info={"a": "b"})
    classifier.recording(
        path="VE",
        latent_scale=0.18215,
        latent_shift=0.1,
        data_hash="5f",
        training={"steps": 3},
        bins=(Bin(-10.0, 0.0, 0.4, 0.02, 1.0), Bin(0.0, 10.0, 0.9, 0.01, 0.2)),
        chance=0.33,
        chance_loss=1.1,
        confusion=((1, 0, 0), (0, 1, 0), (0, 0, 1)),
        temperatures=((-5.0, 1.2), (5.0, 0.9)),
        suggestion=Suggestion(1.5, (-5.0, 5.0), "So."),
        licence="MIT",
        author="A",
    ).save(folder / "whole.safetensors")
    description, tensors = taken_apart((folder / "whole.safetensors").read_bytes())
    metadata = dict(sorted(description.pop("__metadata__").items()))  # the library writes it in any order
    return put_together({"__metadata__": metadata} | dict(sorted(description.items())), tensors)


def taken_apart(data):
    """(description, the bytes of the tensors)."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def put_together(description, tensors):
    text = description if isinstance(description, bytes) else json.dumps(description).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def most_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes


@contextmanager
def bounded(calls=CALLS):
    """What is inside takes so many calls and so much more memory at most.

    A layer that is built, a tensor that is made and a part of a file that is read are a call each or more; one call
    that does too much shows in memory.
    """
    made, before = 0, most_memory()

    def counting(frame, event, what):
        nonlocal made
        made += event in ("call", "c_call")
        if made > calls:
            raise AssertionError(f"more than {calls} calls")

    sys.setprofile(counting)
    try:
        yield
    finally:
        sys.setprofile(None)
    assert most_memory() - before < 1024 * MEGABYTES


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return whole_file(tmp_path_factory.mktemp("whole"))


def refused(file, sentence):
    for read in (gc.NoisyClassifier.load, read_card):
        with bounded(), pytest.raises(gc.GuidanceError, match=sentence):
            read(file)


@pytest.fixture
def bad(tmp_path, whole):
    """bad(change): a file whose description was changed in place by change(description), or replaced by bytes."""

    def write(change):
        description, tensors = taken_apart(whole)
        changed = change if isinstance(change, bytes) else change(description) or description
        (tmp_path / "bad.safetensors").write_bytes(put_together(changed, tensors))
        return tmp_path / "bad.safetensors"

    return write


def meta(**changes):
    return lambda description: description["__metadata__"].update(changes)


@pytest.mark.parametrize("length", [0, 1, 10 * 2**30, 2**63, 2**64 - 1])
def test_a_declared_length_of_the_description_is_not_believed(length, whole, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(struct.pack("<Q", length) + whole[8:])
    refused(tmp_path / "bad.safetensors", f"it declares {length} bytes of description and has {len(whole)} in all")


def test_a_description_beyond_the_limit_is_not_read(tmp_path):
    """In a sparse file that really is so large."""
    with open(tmp_path / "bad.safetensors", "wb") as file:
        file.write(struct.pack("<Q", 10 * 2**30))
        file.truncate(11 * 2**30)
    refused(tmp_path / "bad.safetensors", f"at most {MAX_HEADER} are read")


def test_weights_that_do_not_belong_are_not_read(tmp_path, whole):
    """Eight sparse gigabytes under a sound description of one tensor."""
    description, _ = taken_apart(whole)
    data = put_together(
        {
            "__metadata__": description["__metadata__"],
            "head.weight": {"dtype": "F32", "shape": [2**31], "data_offsets": [0, 2**33]},
        },
        b"",
    )
    with open(tmp_path / "bad.safetensors", "wb") as file:
        file.write(data)
        file.truncate(len(data) + 2**33)
    with bounded(), pytest.raises(gc.GuidanceError, match="its weights and its description do not agree"):
        gc.NoisyClassifier.load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("shape", [[2**40], [2**31, 2**31], [10**9] * 8])
def test_huge_declared_shapes(shape, bad):
    def enlarge(description):
        description["head.weight"]["shape"] = shape

    with bounded(), pytest.raises(gc.GuidanceError, match="do not agree"):
        gc.NoisyClassifier.load(bad(enlarge))


@pytest.mark.parametrize("end", [2**62, 10**30])
def test_places_beyond_the_end(end, bad):
    def move(description):
        description["head.weight"]["data_offsets"][1] = end

    refused(bad(move), f"it declares {end} bytes of tensors")


@pytest.mark.parametrize(
    "parameters",
    [
        {"classes": 10**9},
        {"width": 10**9},
        {"depth": 10**9},
        {"depth": 60_000},
        {"multipliers": [1] * 10**5},
        {"multipliers": [10**9]},
        {"embedding": 10**30},
        {"width": 65536, "multipliers": [65536] * 16, "depth": 32, "embedding": 65536},
        {"width": -8},
        {"channels": 0},
        {"channels": False},
        {"depth": 1.5},
        {"width": float("inf")},
        {"width": True},
        {"width": "8"},
        {"self": 1},
        {"__class__": 1},
    ],
    ids=lambda change: str(change)[:60],
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_of_gigantic_and_impossible_networks(parameters, architecture, bad):
    changed = json.dumps(SMALL[architecture] | parameters)
    sentence = "'parameters' (must|holds)|build no network|do not agree|3 labels for 1000000000 classes"
    with bounded(), pytest.raises(gc.GuidanceError, match=sentence):
        gc.NoisyClassifier.load(bad(meta(parameters=changed, architecture=architecture)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_largest_network_that_may_be_described(architecture, bad):
    """Outlined, without memory for its weights, to find that those in the file are not its own."""
    most = {"multipliers": [1] * MAX_LEVELS, "depth": MAX_DEPTH}
    if architecture == "adm_encoder":
        most |= {"image_size": 2**15, "attention": [2**level for level in range(MAX_LEVELS)]}
    changed = json.dumps(SMALL[architecture] | most)
    with bounded(calls=3_000_000), pytest.raises(gc.GuidanceError, match="do not agree"):
        gc.NoisyClassifier.load(bad(meta(parameters=changed, architecture=architecture)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_small_networks_are_built(architecture, bad):
    """So that what makes them gigantic or impossible is what is refused above, and nothing else of them."""
    with bounded(), pytest.raises(gc.GuidanceError, match="its weights and its description do not agree"):
        gc.NoisyClassifier.load(bad(meta(parameters=json.dumps(SMALL[architecture]), architecture=architecture)))


def test_too_many_labels(bad):
    refused(bad(meta(labels=json.dumps(["a"] * (MAX_LABELS + 1)))), "'labels' must be a list of 1 to 65536 names")
    refused(bad(meta(labels='["' + "a" * 10**6 + '", "b", "c"]')), "'labels' must be text of at most 200")


def test_too_many_tensors(bad):
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    refused(bad(lambda description: {str(i): entry for i in range(MAX_TENSORS + 1)}), "declares 8193 tensors")


DEEP = "[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("bomb", DEEP, ids=["open", "tables", "closed"])
def test_nested_descriptions(bomb, bad):
    refused(bad(bomb.encode()), "is not a whole safetensors file")
    refused(bad(b'{"__metadata__":' + bomb.encode() + b"}"), "is not a whole safetensors file")
    for key in ("labels", "parameters", "info", "log_snr_range", "bins", "training", "suggestion", "temperatures"):
        refused(bad(meta(**{key: bomb})), f"wrong description: '{key}' is n")


def test_numbers_of_a_million_digits(bad):
    for key in ("log_snr_range", "parameters", "bins", "chance"):
        refused(bad(meta(**{key: f"[{'9' * 10**6}]"})), f"wrong description: '{key}'")
    refused(bad(f'{{"__metadata__": {{}}, "a": {"9" * 10**6}}}'.encode()), "is not a whole safetensors file")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_that_are_no_numbers(value, dtype, whole, tmp_path):
    from safetensors.torch import load, save_file

    tensors = {name: tensor.to(dtype) for name, tensor in load(whole).items()}
    tensors["head.weight"][1, 2] = value
    description, _ = taken_apart(whole)
    save_file(tensors, tmp_path / "bad.safetensors", metadata=description["__metadata__"])
    with bounded(), pytest.raises(gc.GuidanceError, match="its weights 'head.weight' are not all finite numbers"):
        gc.NoisyClassifier.load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_load_as_single(dtype, whole, tmp_path):
    from safetensors.torch import load, save_file

    description, _ = taken_apart(whole)
    tensors = {name: tensor.to(dtype) for name, tensor in load(whole).items()}
    save_file(tensors, tmp_path / "other.safetensors", metadata=description["__metadata__"])
    loaded = gc.NoisyClassifier.load(tmp_path / "other.safetensors").network.state_dict()
    assert all(
        weight.dtype == torch.float32 and torch.equal(weight, tensors[n].float()) for n, weight in loaded.items()
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.complex64])
def test_weights_of_other_kinds(dtype, whole, tmp_path):
    from safetensors.torch import load, save_file

    description, _ = taken_apart(whole)
    tensors = {name: tensor.to(dtype) for name, tensor in load(whole).items()}
    save_file(tensors, tmp_path / "bad.safetensors", metadata=description["__metadata__"])
    with bounded(), pytest.raises(gc.GuidanceError, match="is damaged: its weights .* are .*, not real numbers"):
        gc.NoisyClassifier.load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    "text",
    [b"\xff\xfe\xfa", b'{"\xff": 1}', b"[]", b"null", b'{"__metadata__": {"format": 1}}', b'{"__metadata__": []}',
     b'{"a": {"dtype": "F32", "shape": [1]}}', b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
     b'{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}', b'{"a": 1}', b'{"\\ud800": 1}'],
)  # fmt: skip
def test_descriptions_that_are_none(text, bad):
    refused(bad(text), "is not a whole safetensors file")


def test_tensors_that_overlap(bad):
    def overlap(description):
        description["head.bias"]["data_offsets"] = description["embedding.layers.0.bias"]["data_offsets"]

    with bounded(), pytest.raises(gc.GuidanceError, match="is not a whole safetensors file|do not agree"):
        gc.NoisyClassifier.load(bad(overlap))


def test_what_is_no_file(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path, "is a folder: name the noisy classifier file in it")
    for name in ("a", "pipe", "none", "nul\0", "x" * 5000):
        refused(tmp_path / name, "There is no noisy classifier file")
    refused("/dev/zero", "There is no noisy classifier file")


def test_a_file_that_may_not_be_read(tmp_path, whole, monkeypatch):
    (tmp_path / "secret.safetensors").write_bytes(whole)

    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    refused(tmp_path / "secret.safetensors", "'secret.safetensors' is not a whole safetensors file .*Permission denied")


# --- the fuzz ---

NUMBERS = st.one_of(
    st.integers(-3, 70), st.sampled_from([10**9, 2**31, 2**53, 2**63, 10**30]), st.floats(), st.booleans(), st.none()
)
TREES = st.recursive(
    st.one_of(NUMBERS, st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["scale", "classes", "depth", "accuracy", "a"]), inner, max_size=4),
    ),
    max_leaves=8,
)
TEXTS = st.one_of(st.text(max_size=20), TREES.map(json.dumps), st.sampled_from(DEEP), NUMBERS.map(str))
PLACES = st.one_of(st.integers(0, 7), st.integers(0, 4000), st.floats(0, 1))
BYTES = st.one_of(
    st.tuples(st.just("set"), PLACES, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("insert"), PLACES, st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("delete"), PLACES, st.integers(1, 64)),
    st.tuples(st.just("cut"), PLACES, st.none()),
    st.tuples(st.just("double"), PLACES, st.integers(1, 4096)),
)
FIELDS = st.one_of(
    st.tuples(st.just("metadata"), st.integers(0, 40), TEXTS),
    st.tuples(st.just("forget"), st.integers(0, 40), st.none()),
    st.tuples(st.just("tensor"), st.integers(0, 60), TREES),
    st.tuples(
        st.just("dtype"), st.integers(0, 60), st.sampled_from(["F16", "BF16", "I32", "U8", "F64", "F8_E4M3", ""])
    ),
    st.tuples(st.just("shape"), st.integers(0, 60), st.lists(NUMBERS, max_size=5)),
    st.tuples(st.just("place"), st.integers(0, 60), st.lists(NUMBERS, min_size=2, max_size=2)),
    st.tuples(st.just("parameter"), st.integers(0, 5), TREES),
    st.tuples(st.just("weights"), PLACES, st.sampled_from([b"\x00\x00\xc0\x7f", b"\xff" * 8, b"\x00" * 64])),
)


def mutated_bytes(data, changes):
    for kind, where, what in changes:
        at = int(where * len(data)) if isinstance(where, float) else min(where, len(data))
        if kind == "set":
            data = data[:at] + what + data[at + len(what) :]
        elif kind == "insert":
            data = data[:at] + what + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + what :]
        elif kind == "cut":
            data = data[:at]
        else:
            data = data[: at + what] + data[at : at + what] + data[at + what :]
    return data


def mutated_fields(data, changes):
    description, tensors = taken_apart(data)
    metadata = description["__metadata__"]
    names = [name for name in description if name != "__metadata__"]
    for kind, which, what in changes:
        if kind in ("metadata", "forget") and metadata:
            key = sorted(metadata)[which % len(metadata)]
            metadata.pop(key) if kind == "forget" else metadata.update({key: what})
        elif kind == "parameter":
            key = list(PARAMETERS)[which % len(PARAMETERS)]
            metadata["parameters"] = json.dumps(PARAMETERS | {key: what})
        elif kind == "weights":
            at = 4 * (int(which * len(tensors) / 4) if isinstance(which, float) else which)
            tensors = tensors[:at] + what + tensors[at + len(what) :]
        elif kind == "tensor":
            description[names[which % len(names)]] = what
        elif isinstance(entry := description[names[which % len(names)]], dict):
            entry[{"dtype": "dtype", "shape": "shape", "place": "data_offsets"}[kind]] = what
    return put_together(description, tensors)


class Tally:
    """How many files did either, and by how much loading them raised the most memory that the process ever had."""

    def __init__(self):
        self.loaded = self.refused = self.kilobytes = 0


def loads_or_is_refused(file, data, tally):
    file.write_bytes(data)
    before = most_memory()
    try:
        with bounded():
            read_card(file)
            classifier = gc.NoisyClassifier.load(file)
        assert classifier(X, 1.0).shape == (2, len(classifier.labels))
        tally.loaded += 1
    except gc.GuidanceError as error:
        assert 20 < len(str(error)) < 1000, error
        tally.refused += 1
    tally.kilobytes += most_memory() - before
    assert tally.kilobytes < 1024 * MEGABYTES


def fuzz(whole, file, seed, examples, tally):
    quiet = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )

    @hypothesis.seed(seed)
    @quiet
    @given(st.lists(BYTES, min_size=1, max_size=4))
    def by_bytes(changes):
        loads_or_is_refused(file, mutated_bytes(whole, changes), tally)

    @hypothesis.seed(seed)
    @quiet
    @given(st.lists(FIELDS, min_size=1, max_size=4))
    def by_fields(changes):
        loads_or_is_refused(file, mutated_fields(whole, changes), tally)

    by_bytes()
    by_fields()


def test_anything_loads_or_is_refused(whole, tmp_path):
    tally = Tally()
    loads_or_is_refused(tmp_path / "fuzz.safetensors", whole, Tally())  # what is imported late is no growth
    fuzz(whole, tmp_path / "fuzz.safetensors", 0, 300, tally)
    assert tally.loaded > 5 and tally.refused > 100


@pytest.mark.slow
def test_anything_loads_or_is_refused_at_length(whole, tmp_path):
    tally = Tally()
    for seed in range(1, 21):
        fuzz(whole, tmp_path / "fuzz.safetensors", seed, 500, tally)
    assert tally.loaded > 300 and tally.refused > 10_000
