"""A CFG method is one file: put into a copy of the library, it is found, tested and documented with no other edit."""

import re

import pytest
from library_copy import copied, python

import guidance_core as gc
from devtools.make_readme import methods_table

NEEDED = ["guidance_core", "devtools", "pyproject.toml"]
SUITE = [f"tests/core/{name}.py" for name in ("test_cfg", "method_examples", "conftest", "mixture")]

METHOD = '''"""Evened guidance: every picture is guided about alike, however far apart its two predictions are."""

from dataclasses import dataclass

from ..params import number
from ..tensors import expand, norm
from .base import Method, Phase


@dataclass(frozen=True)
class Evened(Method):
    name = "evened"
    title = "Evened"
    doc = "Guides where the prompt changes little more, and where it changes much less."
    source = "Malarz et al. 2025, arXiv:2502.10574, the normalisation by a power of the norm alone"
    rank = 35
    power: float = number(0.3, 0.0, 1.0, 0.05, "How far to even out; 0 is plain guidance.")

    def start(self, run):
        def stage(p):
            size = norm(p.difference).clamp(min=1e-6)
            return p.with_difference(p.difference * expand(size**-self.power, p.x))

        return {Phase.DIFFERENCE: stage}
'''
ROW = (  # of it in the README
    "| [`evened`](docs/cfg-methods.md#evened-evened) "
    "| Guides where the prompt changes little more, and where it changes much less. |"
)
SECTION = [  # of it in the page of methods
    "### `evened`: Evened",
    "Source: Malarz et al. 2025, arXiv:2502.10574, the normalisation by a power of the norm alone. "
    "Acts on the difference cond - uncond.",
    "| `power` | 0.3 | 0 to 1 | How far to even out; 0 is plain guidance. |",
]
BROKEN = {  # fault: (right, wrong, the conformance test that finds it)
    "norm_of_the_batch": (
        "norm(p.difference).clamp",
        "norm(p.difference).mean().clamp",
        "test_batch_mates_do_not_matter",
    ),
    "state_beside_the_run": (
        "def stage(p):",
        "self.seen.append(run)\n\n        def stage(p):\n"
        "            p = p.with_difference(p.difference * len(self.seen))",
        "test_two_runs_are_bit_equal",
    ),
    "work_in_place": ("size = norm", "p.cond.add_(1)\n            size = norm", "test_inputs_are_left_as_they_are"),
    "nothing_done": ("**-self.power", "**0", "test_switched_on_methods_differ_from_plain_guidance"),
    "division_by_zero": (".clamp(min=1e-6)", "", "test_finite_for_equal_predictions_and_for_zeros"),
}


def broken(fault):
    """The method under the fault's name, with the fault in it."""
    right, wrong, _ = BROKEN[fault]
    assert right in METHOD
    text = METHOD.replace(right, wrong).replace('name = "evened"', f'name = "{fault}"')
    return text.replace("    rank = 35", "    rank, seen = 35, []") if "seen" in wrong else text


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """copy({name: text}): the library and what tests and documents its methods, with these files among the methods."""

    def make(methods):
        root = copied(tmp_path_factory.mktemp("copy"), NEEDED + SUITE)
        for name, text in methods.items():
            (root / f"guidance_core/cfg/{name}.py").write_text(text, encoding="utf-8")
        return root

    return make


@pytest.fixture(scope="module")
def extended(copy):
    return copy({"evened": METHOD})


def conformance(root, tests):
    """The output of the conformance suite, of the tests that a pattern selects."""
    return python(root, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/core/test_cfg.py", "-k", tests)


def test_it_is_a_method_with_a_row_in_the_readme_and_a_section_at_once(extended):
    code = """
import torch, guidance_core as gc
from devtools.make_methods import sections
from devtools.make_readme import methods_table
x = torch.ones(2, 1, 2, 2)
print(*gc.cfg_methods())
print(gc.combine(x, 0 * x, x, 1.0, 3.0, "evened", power=1.0)[0, 0, 0, 0].item())
print(methods_table())
print(sections())
"""
    names, value, *rows = python(extended, "-c", code).splitlines()
    assert set(names.split()) == {*gc.cfg_methods(), "evened"} and names.startswith("standard ")
    assert float(value) == pytest.approx(1 + 2 / 2)  # the difference 1 in four places has the norm 2
    ours = methods_table().splitlines()
    assert {*ours, ROW, *SECTION} <= set(rows)


def test_the_conformance_suite_runs_over_it_and_passes(extended):
    ours = "evened or says or stack or decide or rank"  # the tests of this method, and those of all methods together
    printed = conformance(extended, ours)
    found = re.search(r"^(\d+) passed, \d+ deselected", printed, re.MULTILINE)
    assert found and int(found[1]) > 40, printed


def test_a_broken_one_does_not_pass(copy):
    """Each fault is found by the test for it."""
    root = copy({fault: broken(fault) for fault in BROKEN})
    tests = " or ".join(f"({fault} and {test})" for fault, (_, _, test) in BROKEN.items())
    printed = conformance(root, tests)
    failures = re.findall(r"^FAILED \S+::(\w+)\[(\S+)\]", printed, re.MULTILINE)
    found = {(fault, test) for test, case in failures for fault in BROKEN if fault in case}
    assert found == {(fault, test) for fault, (_, _, test) in BROKEN.items()}, printed
