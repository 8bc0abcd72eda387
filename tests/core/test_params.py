"""Parameters: declared once, checked when an instance is made, and named in every refusal."""

import math
from dataclasses import FrozenInstanceError, dataclass

import numpy as np
import pytest

import guidance_core as gc
from guidance_core.cfg import Pipeline, methods_of
from guidance_core.params import Checked, choice, flag, integer, make, number, params_of, text
from guidance_core.shapes import Keyframes, Values


@dataclass(frozen=True)
class Everything(Checked):
    undeclared: object = None
    amount: float = number(0.5, 0.0, 1.0, 0.01, "An amount.", unit="x")
    count: int = integer(3, 1, 10, "A count.")
    on: bool = flag(False, "A switch.", advanced=True)
    kind: str = choice("a", ("a", "b"), "A choice.")
    words: str = text("", "Words.")


def test_declarations_are_read_in_order_and_only_they():
    params = params_of(Everything)
    assert list(params) == ["amount", "count", "on", "kind", "words"]
    assert [p.kind for p in params.values()] == [float, int, bool, tuple, str]
    assert [p.default for p in params.values()] == [0.5, 3, False, "a", ""]
    assert (params["amount"].low, params["amount"].high, params["amount"].step) == (0.0, 1.0, 0.01)
    assert (params["amount"].unit, params["amount"].doc) == ("x", "An amount.")
    assert params["kind"].options == ("a", "b")
    assert [p.advanced for p in params.values()] == [False, False, True, False, False]


@pytest.mark.parametrize(
    "values",
    [
        {"amount": 0.0},
        {"amount": 1},
        {"amount": np.float32(0.25)},
        {"count": 10},
        {"count": 2.0},
        {"count": np.int64(4)},
        {"on": True},
        {"kind": "b"},
        {"words": "any text"},
    ],
)
def test_values_in_range_are_taken_as_they_are(values):
    made = make(Everything, "everything", values)
    assert {name: getattr(made, name) for name in values} == values


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"amount": 1.01}, r"amount must be in \[0, 1\], got 1.01."),
        ({"amount": -0.01}, r"amount must be in \[0, 1\], got -0.01."),
        ({"amount": math.nan}, r"amount must be in \[0, 1\], got nan."),
        ({"amount": math.inf}, r"amount must be in \[0, 1\], got inf."),
        ({"amount": True}, "amount must be a number, got True."),
        ({"amount": "0.5"}, "amount must be a number, got '0.5'."),
        ({"amount": None}, "amount must be a number, got None."),
        ({"count": 2.5}, "count must be a whole number, got 2.5."),
        ({"count": 0}, r"count must be in \[1, 10\], got 0."),
        ({"on": 1}, "on must be true or false, got 1."),
        ({"kind": "c"}, "kind must be one of a, b, got 'c'."),
        ({"words": 7}, "words must be text, got 7."),
        ({"volume": 1}, "everything has no parameter 'volume': it takes amount, count, on, kind, words."),
        ({"undeclared": 1}, "everything has no parameter 'undeclared'"),
    ],
)
def test_refusals_name_the_parameter_the_value_and_what_is_allowed(values, sentence):
    with pytest.raises(gc.GuidanceError, match=f"^{sentence}"):
        make(Everything, "everything", values)


LONG = "x" * 100_000


@pytest.mark.parametrize(
    "refused",
    [
        lambda: Everything(amount=LONG),
        lambda: Everything(count=10**400),
        lambda: Everything(on=LONG),
        lambda: Everything(kind=LONG),
        lambda: Everything(words=[LONG]),
        lambda: make(Everything, LONG, {LONG: 1}),
        lambda: gc.ScaleSchedule(LONG),
        lambda: Keyframes(points=LONG),
        lambda: Keyframes(points=f"0: {LONG}"),
        lambda: Values(values="9" * 100_000),
        lambda: methods_of(LONG, {}),
        lambda: methods_of("apg", {LONG: 1}),
        lambda: methods_of("standard", {LONG: 1}),
        lambda: methods_of(["apg"], {LONG: 1}),
        lambda: methods_of(LONG.encode(), {}),
    ],
)
def test_a_refusal_quotes_a_part_of_what_is_long(refused):
    with pytest.raises(gc.GuidanceError) as error:
        refused()
    assert len(str(error.value)) < 800


def test_checks_run_however_an_instance_is_made():
    with pytest.raises(gc.GuidanceError, match="amount"):
        Everything(amount=2.0)
    with pytest.raises(FrozenInstanceError):
        Everything().amount = 0.1


def test_every_shape_and_term_declares_documented_parameters_with_valid_defaults():
    for cls in (*gc.SHAPES.values(), gc.ScaleSchedule, gc.ClassifierTerm, *gc.cfg_methods().values()):
        for name, param in params_of(cls).items():
            param.check(name, param.default)
            assert param.doc.endswith("."), (cls, name)


NUMBERS = {
    f"{cls.__name__}.{name}": param
    for cls in (*gc.SHAPES.values(), gc.ScaleSchedule, gc.ClassifierTerm, Pipeline, *gc.cfg_methods().values())
    for name, param in params_of(cls).items()
    if param.kind in (float, int)
}


@pytest.mark.parametrize("param", NUMBERS.values(), ids=NUMBERS)
def test_every_default_is_reached_from_the_lowest_value_by_whole_steps(param):
    """So that a widget, which counts in steps, can come back to it."""
    steps = (param.default - param.low) / param.step
    assert steps == pytest.approx(round(steps), abs=1e-6)
    assert param.low + param.step <= param.high


@pytest.mark.parametrize("param", NUMBERS.values(), ids=NUMBERS)
def test_every_step_is_one_two_or_five_times_a_power_of_ten(param):
    """So that a widget, which counts in steps, comes by round numbers."""
    assert f"{param.step:e}".split("e")[0].rstrip("0") in ("1.", "2.", "5.")
