"""A class under `frozen` is what the standard library's frozen dataclass is, and is not compiled when declared."""

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import pytest

from guidance_core.frozen import frozen
from guidance_core.params import Checked, number


def declared(decorator):
    """A base and a class after it, whose fields are of every kind, under a decorator."""

    class Base(Checked):
        """A base."""

        low: float
        high: float = number(2.0, 0.0, 9.0, 0.5, "The upper end.")

    class Both(decorator(Base)):
        """A class with a base."""

        names: list[str] = dataclasses.field(default_factory=list, compare=False)
        hidden: int = dataclasses.field(default=3, repr=False, kw_only=True)

        @cached_property
        def width(self):
            return self.high - self.low

    return decorator(Both)


OURS, THEIRS = declared(frozen), declared(dataclasses.dataclass(frozen=True))


@frozen
class Kept:
    """At the top of a module, where pickle finds it."""

    number: int = 1


@frozen(eq=False, repr=False)
class ByItself:
    """Equal to nothing but itself."""

    number: int = 1


def test_it_is_what_the_standard_library_makes():
    assert inspect.signature(OURS) == inspect.signature(THEIRS)
    assert OURS.__match_args__ == THEIRS.__match_args__ and OURS.high == THEIRS.high == 2.0
    given = [{"low": 1.0}, {"low": 1.0, "high": 3.0}, {"low": 0.0, "names": ["a"], "hidden": 4}]
    for values in given:
        ours, theirs = OURS(**values), THEIRS(**values)
        assert repr(ours) == repr(theirs).replace("theirs", "ours") and dataclasses.asdict(ours) == vars(theirs)
        assert hash(ours) == hash(theirs) and ours.width == theirs.width
        assert dataclasses.replace(ours, high=5.0) == OURS(**{**values, "high": 5.0})
        assert [ours == OURS(**other) for other in given] == [theirs == THEIRS(**other) for other in given]
        assert ours != theirs and copy.deepcopy(ours) == ours
    assert OURS(1.0).names is not OURS(1.0).names


@pytest.mark.parametrize("arguments", [(), (1.0, 2.0, [], 3), (1.0, 99.0)])
def test_it_refuses_what_the_standard_library_refuses(arguments):
    said = []
    for kind in (OURS, THEIRS):
        with pytest.raises((TypeError, ValueError)) as refused:
            kind(*arguments)
        said.append(str(refused.value).rpartition("Both.")[2])
    assert said[0] == said[1]


def test_no_attribute_is_changed():
    ours = OURS(1.0)
    for change in (lambda: setattr(ours, "low", 2.0), lambda: setattr(ours, "new", 2), lambda: delattr(ours, "low")):
        with pytest.raises(dataclasses.FrozenInstanceError, match="Both is frozen: its (low|new) cannot be changed"):
            change()
    assert ours.low == 1.0


def test_a_class_derived_without_a_decorator_may_have_more_attributes():
    for kind in (OURS, THEIRS):
        loose = type("Loose", (kind,), {})(1.0)
        loose.more = 5
        assert loose.more == 5
        del loose.more
        with pytest.raises(dataclasses.FrozenInstanceError):
            loose.low = 2.0


def test_it_is_pickled_and_equal_only_where_that_is_asked_for():
    assert pickle.loads(pickle.dumps(Kept(7))) == Kept(7) != Kept(8)
    assert ByItself() != ByItself() and repr(ByItself()).startswith("<") and hash(ByItself()) != hash(ByItself())


def test_what_a_class_defines_itself_stays():
    @frozen
    class Shown:
        """A class with its own text and equality."""

        number: int

        def __repr__(self):
            return "shown"

        def __eq__(self, other):
            return True

        def __hash__(self):
            return 5

    assert repr(Shown(1)) == "shown" and Shown(1) == Shown(2) and hash(Shown(1)) == 5


def test_declaring_the_library_compiles_no_function_of_a_frozen_class():
    """A tenth of a second at ComfyUI's start: python compiles a text for each function of a dataclass."""
    code = (
        "import dataclasses, torch\n"
        "made = []\n"
        "def counted(text, *scopes, run=exec):\n"
        "    made.append(text)\n"
        "    return run(text, *scopes)\n"
        "dataclasses.exec = counted\n"
        "import guidance_core as gc\n"
        "gc.cfg_methods(), gc.TrainSettings, gc.train_classifier, gc.NoisyClassifier\n"
        "print(len(made))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert int(done.stdout) < 100  # of classes that are used at once or that change: of all of them it would be 428


def test_the_standard_library_s_own_is_derived_from_it_and_the_other_way_round():
    """As users write methods, terms and heads."""

    @dataclasses.dataclass(frozen=True)
    class Theirs(OURS):
        """The standard library's, of ours."""

        more: int = 1

    @frozen
    class Again(Theirs):
        """Ours, of theirs."""

        last: int = 2

    theirs, again = Theirs(1.0, more=5), Again(1.0, more=5)
    assert (theirs.low, theirs.high, theirs.more) == (1.0, 2.0, 5) and dataclasses.replace(theirs, more=6).more == 6
    assert theirs == Theirs(1.0, more=5) != Theirs(1.0) and again.last == 2 and again == Again(1.0, more=5) != theirs
    for each in (theirs, again):
        with pytest.raises(dataclasses.FrozenInstanceError):
            each.more = 7
    with pytest.raises(TypeError, match="frozen"):
        dataclasses.dataclass(type("Loose", (OURS,), {}))
