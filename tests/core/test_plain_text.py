"""What nodes say is read letter by letter, whatever a file of others has written there."""

import html
import re
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

MODULE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "nodes" / "ui" / "plain_text.py"))
plain, visible = MODULE["plain"], MODULE["visible"]
PIECES = [
    "[[",
    "]]",
    "|",
    "<",
    ">",
    "&amp;",
    "__LNK",
    "https://",
    "www.",
    "*",
    "_",
    "a",
    " ",
    "\n",
    "-",
    "1",
    ". ",
    "@",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join))
def test_any_text_is_read_as_it_is_and_holds_no_markup(text):
    said = plain(text)
    assert html.unescape(said) == visible(text)
    assert not re.search(r"[<>\[\]*`~\\@]|://|www\.|__|^\s*[-+=#|]", said, re.MULTILINE | re.IGNORECASE)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\u202enevas", "[U+202E]nevas"),
        ("se\u200bven\ufeff", "se[U+200B]ven[U+FEFF]"),
        ("a\tb\x1b", "a[U+0009]b[U+001B]"),
        ("se\u3164ven", "se[U+3164]ven"),  # a letter that shows nothing
        ("se\u200cven", "se[U+200C]ven"),  # a joiner that joins nothing
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("क्\u200dष", "क्\u200dष"),
    ],
)
def test_what_cannot_be_seen_is_named_and_what_writing_needs_stays(text, seen):
    assert visible(text) == seen


def test_what_nodes_say_of_themselves_is_left_alone():
    line = "Step 3 of 8\nCFG scale 4, 27 of 50 passes run (perp_neg); target seven | (three:1.5), score 0.5."
    assert plain(line) == line
