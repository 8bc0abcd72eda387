"""The values of a sweep, as text."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import guidance_core as gc
from guidance_core.sweep import MOST, sweep_names, sweep_numbers


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1, 2, 4, 7.5", (1, 2, 4, 7.5)),
        ("1:8:5", (1, 2.75, 4.5, 6.25, 8)),
        ("0, 4:1:4\n-2.5,", (0, 4, 3, 2, 1, -2.5)),
        (" 1e1 ", (10,)),
        ("1:2:4", (1, 1.33333, 1.66667, 2)),
        (f"1:{MOST}:{MOST}", tuple(range(1, MOST + 1))),
    ],
)
def test_numbers_and_ranges(text, values):
    assert sweep_numbers(text) == values


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "there are no values"),
        (" ,\n", "there are no values"),
        ("1, two", "'two' is not a number"),
        ("nan", "'nan' is not a number"),
        ("1:inf:3", "'1:inf:3' is not a number"),
        ("1:8", "'1:8' is not a range: write first:last:count"),
        ("1:8:2:3", "'1:8:2:3' is not a range"),
        ("1:8:1", "'1:8:1' asks for 1 values: a range has 2 to 64"),
        ("1:8:2.5", "asks for 2.5 values"),
        ("1:8:1000000000000", "a range has 2 to 64"),
        ("1:40:40, 41:80:40", "there are 80 values: a sweep has 64 at most"),
        ("1, 2, 1.0", "1 is there twice"),
        ("2:2:3", "2 is there twice"),
    ],
)
def test_wrong_numbers_are_named(text, sentence):
    with pytest.raises(gc.GuidanceError, match=sentence.replace("?", r"\?")):
        sweep_numbers(text)


ENTRY = st.one_of(
    st.builds("{:g}:{:g}:{}".format, st.floats(), st.floats(), st.integers(0, MOST)),
    st.floats().map(str),
    st.text("0123456789.:-e+ _infa", max_size=12),
    st.text(),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ENTRY, max_size=4).map(",".join))
@example("-1.7e308:1.7e308:3")
@example("x" * 100_000)
@example(f"1:2:{'9' * 400}")
def test_any_text_is_values_or_refused_in_a_short_sentence(text):
    try:
        values = sweep_numbers(text)
    except gc.GuidanceError as error:
        assert str(error)[-1] in ".?)" and len(str(error)) < 400
    else:
        assert 0 < len(values) <= MOST
        assert all(map(math.isfinite, values))
        assert len(set(values)) == len(values)
    with pytest.raises(gc.GuidanceError) as caught:
        sweep_names(text, ("standard", "apg"))
    assert len(str(caught.value)) < 400


def test_names_are_known_ones():
    known = tuple(gc.cfg_methods())
    assert sweep_names("standard, apg\ncfg_zero_star", known) == ("standard", "apg", "cfg_zero_star")
    for text, sentence in (
        ("standard, abg", "there is no 'abg': choose from standard, "),
        ("", "there are no names: write some of standard, "),
        ("apg, apg", "apg is there twice"),
    ):
        with pytest.raises(gc.GuidanceError, match=sentence):
            sweep_names(text, known)
