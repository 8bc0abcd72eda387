"""A term is one file: put into a copy of the library, it is found, tested and documented with no other edit."""

import re

import pytest
from library_copy import copied, python

import guidance_core as gc
from devtools.make_readme import terms_table
from guidance_core.terms import terms

NEEDED = ["guidance_core", "devtools", "pyproject.toml"]
SUITE = [f"tests/core/{name}.py" for name in ("test_terms", "term_examples", "conftest", "mixture")]

TERM = '''"""Mirrored guidance: towards a picture whose sides are alike."""

from dataclasses import dataclass

from ..params import number
from ..scale import ScaleSchedule
from .base import Term, TermEvent


@dataclass(frozen=True)
class Mirrored(Term):
    name = "mirrored"
    title = "Mirrored"
    doc = "Makes left and right alike."
    source = "this test"
    before_result = True
    scale: float = number(0.5, -10.0, 10.0, 0.05, "How much alike: 0 is off, 1 the mean of both.")
    schedule: ScaleSchedule = ScaleSchedule()

    def start(self, run):
        scale_at = self.scale_over(run)

        def guided(denoised, x, sigma):
            scale = scale_at(sigma)
            if scale == 0:
                return denoised
            run.record(TermEvent(float(sigma[0]), scale))
            return denoised + scale * (denoised.flip(-1) - denoised) / 2

        return guided
'''
ROW = "| `mirrored` | Makes left and right alike. | before methods that adjust the result | none | this test |"
BROKEN = {  # fault: (right, wrong, the conformance test that finds it)
    "acts_at_zero": ("if scale == 0:", "if False:", "test_where_it_adds_nothing_it_gives_what_it_was_given"),
    "deaf_to_the_schedule": ("scale_at(sigma)", "self.scale", "test_a_schedule_multiplies_the_scale"),
    "mean_of_the_batch": ("denoised.flip(-1)", "denoised.mean(0)", "test_batch_mates_do_not_matter"),
    "work_in_place": ("return denoised + scale", "return denoised.add_(1) + scale", "test_shape_and_dtype_are_kept"),
    "says_nothing": ("run.record(TermEvent(float(sigma[0]), scale))", "pass", "test_each_addition_is_recorded"),
    "after_cfg": ("return denoised + scale", "return 2 * denoised + scale", "test_a_negative_scale"),
}


def broken(fault):
    """The term under the fault's name, with the fault in it."""
    right, wrong, _ = BROKEN[fault]
    assert TERM.count(right) == 1
    return TERM.replace(right, wrong).replace('name = "mirrored"', f'name = "{fault}"')


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The library and what tests and documents its terms, with the new one and its faults among them."""
    root = copied(tmp_path_factory.mktemp("copy"), NEEDED + SUITE)
    for name, text in {"mirrored": TERM, **{fault: broken(fault) for fault in BROKEN}}.items():
        (root / f"guidance_core/terms/{name}.py").write_text(text, encoding="utf-8")
    return root


def test_it_is_a_term_with_a_row_in_the_readme_at_once(copy):
    code = """
import torch, guidance_core as gc
from devtools.make_readme import terms_table
from guidance_core.terms import terms
x = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
cond = lambda at, sigma: at
print(*terms())
print(gc.cfg_guided(cond, cond, 1.0, terms=[terms()["mirrored"](1.0)])(x, 1.0).flatten().tolist())
print(terms_table())
"""
    names, value, *rows = python(copy, "-c", code).splitlines()
    assert set(names.split()) == {*terms(), "mirrored", *BROKEN}
    assert value == "[0.5, 0.5]"
    assert {*terms_table().splitlines(), ROW} <= set(rows)


def test_the_conformance_suite_passes_it_and_finds_each_fault(copy):
    tests = " or ".join(["mirrored", *(f"({fault} and {test})" for fault, (_, _, test) in BROKEN.items())])
    printed = python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/core/test_terms.py", "-k", tests)
    failures = set(re.findall(r"^FAILED \S+::(\w+)\[(\S+)\]", printed, re.MULTILINE))
    found = {fault for test, case in failures for fault in BROKEN if fault in case and BROKEN[fault][2] in test}
    assert found == set(BROKEN), printed
    assert not [case for _, case in failures if "mirrored" in case]
    passed = re.search(r"(\d+) passed", printed)
    assert passed and int(passed[1]) > 15, printed


def test_terms_are_siblings():
    """One base class, each with a scale and a schedule of its own."""
    assert {"classifier", "clean_classifier", "self_guidance"} <= terms().keys()
    for term in terms().values():
        assert {"scale", "schedule"} <= term.__dataclass_fields__.keys(), term.name
    assert terms()["self_guidance"] is gc.SelfGuidance
