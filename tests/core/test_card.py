"""Cards: each field is declared once, what is written stays as it was, and nothing in a file can disguise itself."""

import dataclasses
import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import guidance_core as gc
from guidance_core.classifier.card import CREATED_WITH, Card, Record
from guidance_core.classifier.heads import as_head
from guidance_core.classifier.latent_encoder import LatentEncoder
from guidance_core.classifier.measurements import Bin, Suggestion
from guidance_core.classifier.metadata import check_card, from_metadata, to_metadata
from guidance_core.classifier.names import HIDDEN, LINES, appearance, as_labels
from guidance_core.classifier.values import declarations
from guidance_core.data.folders import read_folder

ROOT = Path(gc.__file__).parents[1]
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01"
CARD = Card(
    ["cat", "dog", "Ünï, (odd)"],
    "sd15",
    (-8.5, 7.25),
    "latent_encoder",
    {"channels": 2, "classes": 3, "multipliers": [1, 2]},
    {"a": "b"},
    as_head("multi"),
    Record(
        path="flow",
        latent_scale=0.18215,
        latent_shift=0.0,
        data_hash="5f5f",
        training={"steps": 2000, "learning_rate": 1e-3, "augment": True, "note": "zwei\nZeilen"},
        bins=(Bin(-8.5, -1.0, 0.4, 0.02, 1.01, 1.2), Bin(-1.0, 7.25, 0.99, 0.004, 0.1)),
        chance=1 / 3,
        chance_loss=1.0986,
        confusion=((5, 0, 1), (0, 6, 0), (2, 0, 4)),
        temperatures=((-5.0, 1.2), (3.0, 0.9)),
        suggestion=Suggestion(1.5, (-8.5, 7.25), "Because."),
        licence="CC BY 4.0",
        author="The Digits Company",
        preview=PNG,
        created_with="Another Kit 7",
    ),
)
WRITTEN = {  # by the first release that wrote version 2
    "format": "guidance-kit.noisy-classifier",
    "version": "2",
    "labels": '["cat", "dog", "Ünï, (odd)"]',
    "latent_space": "sd15",
    "log_snr_range": "[-8.5, 7.25]",
    "architecture": "latent_encoder",
    "parameters": '{"channels": 2, "classes": 3, "multipliers": [1, 2]}',
    "info": '{"a": "b"}',
    "head": "multi",
    "path": "flow",
    "latent_scale": "0.18215",
    "latent_shift": "0.0",
    "data_hash": "5f5f",
    "training": '{"steps": 2000, "learning_rate": 0.001, "augment": true, "note": "zwei\\nZeilen"}',
    "bins": '[{"log_snr_low": -8.5, "log_snr_high": -1.0, "accuracy": 0.4, "calibration_error": 0.02, "loss": 1.01, '
    '"temperature": 1.2}, {"log_snr_low": -1.0, "log_snr_high": 7.25, "accuracy": 0.99, "calibration_error": 0.004, '
    '"loss": 0.1, "temperature": 1.0}]',
    "chance": "0.3333333333333333",
    "chance_loss": "1.0986",
    "confusion": "[[5, 0, 1], [0, 6, 0], [2, 0, 4]]",
    "temperatures": "[[-5.0, 1.2], [3.0, 0.9]]",
    "suggestion": '{"scale": 1.5, "log_snr_range": [-8.5, 7.25], "reason": "Because."}',
    "licence": "CC BY 4.0",
    "author": "The Digits Company",
    "preview": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB",
    "created_with": "Another Kit 7",
}


def with_labels(*labels):
    return dataclasses.replace(CARD, labels=list(labels))


# --- one declaration a field ------------------------------------------------------------------------------------------


def test_what_is_written_stays_letter_by_letter():
    assert list(to_metadata(CARD).items()) == list(WRITTEN.items())
    assert from_metadata(WRITTEN, "a file") == CARD


def test_every_field_is_declared_and_stands_in_the_file_under_its_name():
    for cls, apart in ((Card, {"record"}), (Record, set()), (Bin, set()), (Suggestion, set())):
        assert declarations(cls).keys() == {f.name for f in dataclasses.fields(cls)} - apart
    assert WRITTEN.keys() | {"prior"} == {"format", "version", *declarations(Card), *declarations(Record)}


def test_a_prior_is_kept_where_it_means_something():
    rare = dataclasses.replace(CARD, head="single", record=Record(prior=(0.01, 0.01, 0.98)))
    assert to_metadata(rare)["prior"] == "[0.01, 0.01, 0.98]"
    assert from_metadata(to_metadata(rare), "a file") == rare
    with pytest.raises(gc.GuidanceError, match="'prior' means nothing to the head multi"):
        from_metadata(to_metadata(dataclasses.replace(rare, head="multi")), "a file")


def test_a_record_that_says_nothing_is_not_written():
    bare = dataclasses.replace(CARD, record=Record(created_with=""))
    assert to_metadata(bare).keys() == {"format", "version", "created_with", *declarations(Card)}
    assert from_metadata(to_metadata(bare), "a file") == bare


def test_a_card_that_says_little_is_written_in_full():
    metadata = to_metadata(Card(["a", "b"]))
    assert metadata.keys() == {"format", "version", "created_with", *declarations(Card)}
    assert (metadata["latent_space"], metadata["info"], metadata["head"]) == ("", "{}", "single")
    older = {key: text for key, text in metadata.items() if key not in ("latent_space", "info", "head", "created_with")}
    assert from_metadata(older, "a file") == Card(["a", "b"], record=Record(created_with=""))


def test_a_classifier_is_a_network_and_a_card():
    network = torch.nn.Linear(2, 2)
    whole, by_parts = gc.NoisyClassifier(network, CARD), gc.NoisyClassifier(network, ["a", "b"], "sd15", head="multi")
    assert whole.card is CARD and by_parts.card == Card(["a", "b"], "sd15", head="multi")
    for name in declarations(Card):
        assert getattr(whole, name) == getattr(CARD, name)
    assert (whole.record, whole.channels) == (CARD.record, 2)
    other = dataclasses.replace(whole, latent_space="flux")
    assert other.network is network and other.card == dataclasses.replace(CARD, latent_space="flux")
    assert whole.recording(author="Me").card == CARD.recording(author="Me")
    assert whole.card is CARD and whole.record.author == "The Digits Company"


def test_a_classifier_says_what_it_is_in_one_line():
    network = LatentEncoder(channels=2, classes=7, width=8, multipliers=[1], depth=1, embedding=16)
    labels = ["a", "b\n", "c", "d", "e", "f", "g"]
    said = repr(gc.NoisyClassifier(network, labels, "sd15", (-4.5, 6.0)))
    count = sum(weight.numel() for weight in network.parameters())
    assert said == (
        rf"NoisyClassifier(7 labels, one a picture: 'a', 'b\n', 'c', 'd', 'e', ...; latent_encoder, {count:,} weights; "
        "latents 'sd15', log-SNR -4.5 to 6)"
    )


def test_there_is_one_version():
    written = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert gc.__version__ == written and f"Guidance Kit {written}" == CREATED_WITH == Record().created_with
    numbers = [f'"{written}"' in file.read_text(encoding="utf-8") for file in Path(gc.__file__).parent.rglob("*.py")]
    assert sum(numbers) == 1


# --- nothing in disguise ----------------------------------------------------------------------------------------------

HONEST = [
    "बिल्ली",  # Hindi, with vowel signs and a virama
    "क्‍ष",  # with a joiner that shapes the letters
    "แมว",
    "เด็ก",  # Thai, with marks above
    "cafe\u0301",  # an accent by itself
    "family 👨‍👩‍👧",
    "heart ❤️",
    "قطة",
    "חתול",
    "猫",
    "葛\U000e0100",
    "fish & chips <b>",
    "a, (b): |c",
]
DISGUISED = {
    "a control character": "ca\x07t",
    "a turn of direction": "cat\u202egpj",
    "an isolated turn": "\u2066cat\u2069",
    "a mark of direction": "cat\u200f",
    "a space of no width": "ca\u200bt",
    "a joiner of words": "ca\u2060t",
    "a soft hyphen": "ca\xadt",
    "a byte order mark": "\ufeffcat",
    "a letter that is blank": "cat\u3164",
    "hidden tags": "cat\U000e0068\U000e0069",
    "a line": "cat\u2028dog",
    "half of a character": "cat\ud800",
}
ALIKE = [
    ("cat", "cat"),
    ("café", "cafe\u0301"),
    ("café", "cafe\u200d\u0301"),
    ("cat", "cat "),
    ("two words", "two\u00a0words"),
    ("cat", "c\u200dat"),
    ("cat", "cat\ufe0f"),
    ("猫", "猫\U000e0100"),
    ("Å", "Å"),
]


@pytest.mark.parametrize("label", HONEST)
def test_labels_of_any_script_are_kept(label):
    written = to_metadata(with_labels("a", label, "b"))
    assert json.loads(written["labels"])[1] == unicodedata.normalize("NFC", label)
    read = from_metadata(written, "a file").labels
    assert read == ["a", unicodedata.normalize("NFC", label), "b"] == as_labels(["a", label, "b"])
    for written in (label, unicodedata.normalize("NFD", label), unicodedata.normalize("NFC", label)):
        quoted = f'"{written}"'
        for labels in (read, [unicodedata.normalize("NFD", each) for each in read]):
            assert gc.parse_target(quoted, labels).rows[0][0].label == 1


@pytest.mark.parametrize("label", DISGUISED.values(), ids=DISGUISED)
def test_what_cannot_be_seen_is_refused(label):
    metadata = WRITTEN | {"labels": json.dumps(["a", label, "b"])}
    for refused in (lambda: from_metadata(metadata, "a file"), lambda: check_card(with_labels("a", label, "b"), "it")):
        with pytest.raises(gc.GuidanceError, match="'labels' must be text .* that cannot be seen"):
            refused()
    with pytest.raises(gc.GuidanceError, match="Label names must not hold characters that cannot be seen, as 'cat|'"):
        as_labels(["a", label])


SIGNS = [*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)]
"""Of Arabic, Syriac, Kaithi and Egyptian: they count as controls of format, and are seen."""


def test_every_character_that_controls_is_refused():
    """By Unicode's categories: controls, formats, halves of characters, ends of lines and paragraphs."""
    fine = {"\t", "\n", "\u200c", "\u200d", *map(chr, SIGNS)}
    found = [
        chr(i) for i in range(sys.maxunicode + 1) if unicodedata.category(chr(i)) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]
    assert {text for text in found if not (HIDDEN.search(text) or LINES.search(text))} <= fine - {"\t", "\n"}
    assert {text for text in fine if HIDDEN.search(text)} == set()


@pytest.mark.parametrize("text", [text for name, text in DISGUISED.items() if name != "a line"])
@pytest.mark.parametrize("key", ["licence", "author", "latent_space", "info", "training", "suggestion"])
def test_no_text_of_a_card_hides_anything(key, text):
    value = {
        "info": json.dumps({"note": text}),
        "training": json.dumps({"note": text}),
        "suggestion": json.dumps({"scale": 1, "log_snr_range": None, "reason": text}),
    }.get(key, text)
    with pytest.raises(gc.GuidanceError, match=f"'a file' has a wrong description: '{key}' must be text"):
        from_metadata(WRITTEN | {key: value}, "a file")


@pytest.mark.parametrize("pair", ALIKE, ids=ascii)
def test_labels_that_look_the_same_are_refused(pair):
    labels = [pair[0], "other", pair[1]]
    with pytest.raises(gc.GuidanceError, match="'a file' has a wrong description: 'labels' must differ, and .* look"):
        from_metadata(WRITTEN | {"labels": json.dumps(labels)}, "a file")
    with pytest.raises(gc.GuidanceError, match="'labels' must differ"):
        check_card(with_labels(*labels), "it")
    latents, y = torch.zeros(12, 1, 4, 4), torch.arange(12) % 3
    with pytest.raises(gc.GuidanceError, match="Label names must differ, and .* look the same"):
        gc.train_classifier(latents, y, labels)


@given(st.lists(st.text(max_size=6) | st.text("a\u0301\u00e1 \u00a0\u200d\u200b\u202e\ufe0f", max_size=4), min_size=1))
@settings(max_examples=300, deadline=None)
def test_any_names_are_labels_that_can_be_told_apart_or_a_sentence(names):
    try:
        labels = as_labels(names)
    except gc.GuidanceError as error:
        assert re.match("Label names must (differ|not be empty|not hold)", str(error)) and str(error).isprintable()
        return
    assert len({appearance(label) for label in labels}) == len(names) and all(map(appearance, labels))
    card = dataclasses.replace(CARD, labels=names, parameters={}, record=Record())
    assert from_metadata(to_metadata(card), "a file").labels == labels == as_labels(labels)


def test_labels_that_differ_in_case_are_not_the_same():
    assert from_metadata(to_metadata(with_labels("Polish", "polish", "c")), "a file").labels[:2] == ["Polish", "polish"]


@pytest.mark.parametrize("label", ["", " ", "\u00a0", "\u200d", "\ufe0f\u200c"])
def test_empty_labels_are_refused(label):
    with pytest.raises(gc.GuidanceError, match="'labels' must not be empty, as number 2 is"):
        from_metadata(WRITTEN | {"labels": json.dumps(["a", label, "b"])}, "a file")


def test_folders_whose_names_are_decomposed_are_labels(tmp_path):
    from PIL import Image

    for name in ("cafe\u0301", "บ้าน"):
        folder = tmp_path / unicodedata.normalize("NFD", name)
        folder.mkdir()
        for i in range(2):
            Image.new("RGB", (4, 4)).save(folder / f"{i}.png")
    pictures = read_folder(tmp_path, minimum=2)
    assert pictures.labels == ("café", "บ้าน") and pictures.targets.tolist() == [0, 0, 1, 1]


def test_folders_whose_names_hide_something_are_refused(tmp_path):
    from PIL import Image

    for name in ("cat", "cat\u200d"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "a.png")
    with pytest.raises(gc.GuidanceError, match="look the same"):
        read_folder(tmp_path, minimum=1)
